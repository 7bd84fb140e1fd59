"""An app with jobs, and what its clients do."""

from __future__ import annotations

import json
from typing import Any

import trio

from penstock.build import assemble
from penstock.engine.engine import Engine
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import build
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch
from tests.inline import InlineThread
from tests.peers import make_engine

JOB: dict[str, object] = {
    "prompt": "Once upon a time",
    "max_tokens": 12,
    "temperature": 0,
    "ignore_eos": True,
}


def make_app(
    model: Model, tokenizer: Tokenizer, *, engine: Engine | None = None, **settings: object
) -> App:
    given = {"slots": 4, "queue": 8} | settings
    engine = engine or make_engine(model, slots=int(str(given["slots"])))
    return App(assemble(build(given), "default", engine, tokenizer))


def make_timed_app(model: Model, tokenizer: Tokenizer, **settings: object) -> App:
    """For tests on virtual time."""
    app = make_app(model, tokenizer, engine=None, **settings)
    app.service.default.decoder.thread = InlineThread()
    return app


async def ask(
    app: App, method: str, path: str, body: object = None, **headers: str
) -> MemoryClient:
    """One exchange, to its end. Underscores in the names of headers are dashes."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    told = tuple(
        (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
    )
    path, _, query = path.partition("?")
    return await fetch(MemoryClient(app, method, path, query=query, body=data, headers=told))


async def submit(app: App, **changes: object) -> str:
    """The id of a new job."""
    answer = await ask(app, "POST", "/v1/jobs", JOB | changes)
    assert answer.status == 202, answer.body
    job_id: str = answer.json["job_id"]
    return job_id


async def look(app: App, job_id: str) -> Any:  # noqa: ANN401  # whatever the server said
    return (await ask(app, "GET", f"/v1/jobs/{job_id}")).json


def reader(app: App, job_id: str, *, after: int = 0, reads: float = float("inf")) -> MemoryClient:
    query = f"job_id={job_id}"
    headers = ((b"last-event-id", str(after).encode()),) if after else ()
    return MemoryClient(app, "GET", "/v1/stream", query=query, headers=headers, reads=reads)


async def read(app: App, job_id: str, *, after: int = 0) -> MemoryClient:
    return await fetch(reader(app, job_id, after=after))


def blocks(body: bytes) -> list[bytes]:
    """Whole events, without heartbeats and without the first one's retry."""
    parts = body.replace(b": keep-alive\n", b"").split(b"\n\n")
    return [part.replace(b"retry: 1000\n", b"") for part in parts if part]


def fields(block: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in block.decode().split("\n"))


def data(block: bytes) -> Any:  # noqa: ANN401  # whatever the server said
    return json.loads(fields(block)["data"])


async def ended(app: App, job_id: str) -> Any:  # noqa: ANN401  # whatever the server said
    """The job, once it has an end."""
    with trio.fail_after(30):
        await (await app.service.jobs.find("", job_id)).wait_end()
    return await look(app, job_id)
