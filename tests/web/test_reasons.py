"""Why a generation ended, as its reader is told and as it is counted: every reason there is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.access.memory_ledger import MemoryLedger
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, running
from tests.inline import InlineThread
from tests.jobs.clients import ask, blocks, data, fields
from tests.jobs.socket_peer import SocketPeer
from tests.web.doors import ANN, BEN, bearer, make_locked_app, make_ring
from tests.web.test_disconnect import count

LONG: dict[str, Any] = {
    "prompt": "Once upon a time",
    "max_tokens": 40,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
}
BENS = {"authorization": f"Bearer {BEN}"}
SETTINGS: dict[str, Any] = {
    "slots": 1,
    "queue": 2,
    "heartbeat_s": 1e6,
    "park_grace_s": 1e6,
    "job_keep_s": 20,
    "resume_window_s": 30,
    "stall_deadline_s": 50,
}
COUNTERS = {f"penstock_requests_{way}_total" for way in ("finished", "failed", "cancelled")}

Told: TypeAlias = tuple[str, int | None] | None
"""The word that the reader was told, and the tokens beside it; None if nobody was there."""
Drive: TypeAlias = Callable[[App], Awaitable[Told]]


def client(app: App, *, reads: float = float("inf"), key: str = BEN, **more: object) -> Any:  # noqa: ANN401
    body = json.dumps(LONG | more).encode()
    return MemoryClient(
        app, "POST", "/v1/completions", body=body, headers=(bearer(key),), reads=reads
    )


def told_by(client: MemoryClient) -> Told:
    """How its stream ended."""
    chunks = [json.loads(line[6:]) for line in client.body.decode().splitlines() if "{" in line]
    if "error" in chunks[-1]:
        assert b"[DONE]" not in client.body
        return chunks[-1]["error"]["code"], None
    assert client.body.endswith(b"data: [DONE]\n\n")
    return chunks[-2]["choices"][0]["finish_reason"], chunks[-1]["usage"]["completion_tokens"]


@asynccontextmanager
async def reading(app: App, *, reads: int = 3) -> AsyncIterator[Any]:
    """A reader that has stopped after `reads` writes."""
    async with trio.open_nursery() as nursery:
        stopped = client(app, reads=reads)
        nursery.start_soon(stopped.run)
        await wait_all_tasks_blocked()
        assert stopped.status == 200
        yield stopped


async def read_on(client: MemoryClient) -> Told:
    client.read(1000)
    while not client.ended:
        await wait_all_tasks_blocked()
    return told_by(client)


async def stop(app: App) -> Told:
    usage = {"include_usage": True}
    return told_by(await fetch(client(app, stop=["."], max_tokens=150, stream_options=usage)))


async def length(app: App) -> Told:
    return told_by(await fetch(client(app, stream_options={"include_usage": True})))


async def cancelled(app: App) -> Told:
    async with reading(app) as stopped:
        number = stopped.headers[b"x-request-id"].decode()
        await ask(app, "POST", f"/v1/requests/{number}/cancel", **BENS)
        return await read_on(stopped)


async def disconnected(app: App) -> Told:
    async with reading(app) as stopped:
        stopped.leave()
    return None


async def unread(app: App) -> Told:
    """It waits for its slot: one that runs comes to its end without a reader."""
    headers = (bearer(BEN),)
    waiting = MemoryClient(app, "GET", "/chat/stream", query="prompt=Hello", headers=headers)
    async with reading(app) as first:
        with trio.move_on_after(1):
            await waiting.run()
        await trio.sleep(31)
        first.leave()
    return None


async def stalled(app: App) -> Told:
    async with reading(app) as stopped:
        await trio.sleep(51)
        assert not stopped.ended
    return None


async def too_long_in_the_queue(app: App) -> Told:
    async with reading(app) as first:
        late = await fetch(client(app))
        assert trio.current_time() == pytest.approx(5)
        assert late.status == 500
        first.leave()
    return late.json["error"]["code"], None


async def too_long(app: App) -> Told:
    async with reading(app) as stopped:
        await trio.sleep(11)
        return await read_on(stopped)


async def too_long_on_a_socket_without_credits(app: App) -> Told:
    peer = SocketPeer(app, headers=(bearer(BEN),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        peer.tell("start", **{name: LONG[name] for name in ("prompt", "max_tokens")}, credits=0)
        error = (await peer.hear("error"))["error"]
        assert trio.current_time() == pytest.approx(10)
        assert peer.code is None
        peer.leave()
    return error["code"], None


async def quota(app: App) -> Told:
    return told_by(await fetch(client(app, key=ANN)))


async def shutdown(app: App) -> Told:
    async with reading(app) as stopped, trio.open_nursery() as nursery:
        nursery.start_soon(app.service.drain, 0)
        await wait_all_tasks_blocked()
        return await read_on(stopped)


async def broken(app: App) -> Told:
    def fail(_: object) -> Any:  # noqa: ANN401
        raise RuntimeError("ill")

    app.service.default.decoder.engine.step = fail  # type: ignore[assignment, method-assign]
    return told_by(await fetch(client(app)))


JOB = {name: value for name, value in LONG.items() if name != "stream"}


async def job(app: App, **more: object) -> tuple[str, dict[str, Any]]:
    """A job's name and its last event, once somebody has read it."""
    made = await ask(app, "POST", "/v1/jobs", JOB | more, **BENS)
    told = await ask(app, "GET", made.json["stream_url"], **BENS)
    last = blocks(told.body)[-1]
    return made.json["job_id"], {"event": fields(last)["event"], **data(last)}


async def job_done(app: App) -> Told:
    _, last = await job(app)
    assert last["event"] == "job_complete"
    assert last["usage"]["completion_tokens"] == last["figures"]["tokens"]
    return last["finish_reason"], last["figures"]["tokens"]


async def job_cancelled(app: App) -> Told:
    made = await ask(app, "POST", "/v1/jobs", JOB | {"window": 5}, **BENS)
    await wait_all_tasks_blocked()
    path = f"/v1/jobs/{made.json['job_id']}"
    state = (await ask(app, "POST", f"{path}/cancel", **BENS)).json
    told = await ask(app, "GET", made.json["stream_url"], **BENS)
    last = data(blocks(told.body)[-1])
    assert last["reason"] == "client"
    assert last["figures"] == state["figures"]
    return state["error"]["code"], last["figures"]["tokens"]


async def job_too_long(app: App) -> Told:
    _, last = await job(app, window=5)
    assert last["event"] == "job_error"
    assert trio.current_time() == pytest.approx(15)
    return last["error"]["code"], last["figures"]["tokens"]


async def job_forgotten(app: App) -> Told:
    job_id, _ = await job(app)
    await trio.sleep(50)
    assert (await ask(app, "GET", f"/v1/jobs/{job_id}", **BENS)).status == 404
    assert count(app, "jobs_expired_total") == 1
    told = await ask(app, "GET", f"/v1/stream?job_id={job_id}", **BENS)
    return told.json["error"]["code"], None


Case: TypeAlias = tuple[Drive, dict[str, Any], str | None, dict[str, int]]
CASES: list[Case] = [
    (stop, {}, "stop", {"finished:stop": 1}),
    (length, {}, "length", {"finished:length": 1}),
    (cancelled, {}, "cancelled", {"cancelled:client": 1}),
    (disconnected, {}, None, {"cancelled:disconnect": 1}),
    (unread, {}, None, {"cancelled:unread": 1, "cancelled:disconnect": 1}),
    (stalled, {}, None, {"failed:stalled": 1}),
    (
        too_long_in_the_queue,
        {"queue_deadline_s": 5},
        "deadline_exceeded",
        {"failed:deadline": 1, "cancelled:disconnect": 1},
    ),
    (too_long, {"total_deadline_s": 10}, "deadline_exceeded", {"failed:deadline": 1}),
    (
        too_long_on_a_socket_without_credits,
        {"total_deadline_s": 10},
        "deadline_exceeded",
        {"failed:deadline": 1},
    ),
    (quota, {}, "quota_exceeded", {"failed:quota": 1}),
    (shutdown, {}, "unavailable", {"failed:shutdown": 1}),
    (broken, {}, "internal_error", {"failed:failed": 1}),
    (job_done, {"total_deadline_s": 1}, "length", {"finished:length": 1}),
    (job_cancelled, {}, "cancelled", {"cancelled:client": 1}),
    (job_too_long, {"job_wall_s": 15}, "deadline_exceeded", {"failed:deadline": 1}),
    (job_forgotten, {}, "job_not_found", {"finished:length": 1}),
]


def endings(app: App) -> Counter[str]:
    """How generations ended, as `counter:reason`."""
    page = app.service.metrics.render().decode()
    samples = [each for family in text_string_to_metric_families(page) for each in family.samples]
    return Counter(
        {
            f"{each.name.split('_')[2]}:{each.labels['reason']}": int(each.value)
            for each in samples
            if each.name in COUNTERS and each.value
        }
    )


@pytest.mark.parametrize(
    ("drive", "settings", "word", "counted"), CASES, ids=[case[0].__name__ for case in CASES]
)
async def test_the_reader_is_told_what_is_counted(
    model: Model,
    tokenizer: Tokenizer,
    tmp_path: Path,
    autojump_clock: MockClock,
    drive: Drive,
    settings: dict[str, Any],
    word: str | None,
    counted: dict[str, int],
) -> None:
    ring = make_ring(tmp_path, tokens_per_day=20)
    app = make_locked_app(model, tokenizer, ring, **SETTINGS | settings)
    app.service.ledger = MemoryLedger(lambda: 0.0)
    app.service.default.decoder.thread = InlineThread()
    async with running(app):
        told = await drive(app)
        await wait_all_tasks_blocked()
    assert (told and told[0]) == word
    assert endings(app) == counted
    assert count(app, "requests_started_total") == sum(counted.values())
    if told and told[1] is not None:
        assert count(app, "generated_tokens_total") == told[1]
    for gauge in ("live", "active", "waiting", "evicted", "jobs_running", "job_readers"):
        assert count(app, gauge) == 0, gauge
