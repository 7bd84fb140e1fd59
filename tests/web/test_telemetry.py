"""Request ids and timings on the wire, and the lines that requests leave behind."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, running
from tests.jobs.socket_peer import SocketPeer
from tests.peers import make_engine

ASK = {"prompt": "Once upon a time", "max_tokens": 3, "temperature": 0, "ignore_eos": True}
CHAT = {"messages": [{"role": "user", "content": "a secret question"}], "max_tokens": 3}
CHAT |= {"temperature": 0, "ignore_eos": True}
MINE = b"req_1.A:b-7"
HOSTILE = [
    b"",
    b"x" * 129,
    b"a b",
    b"a\nb",
    b"a\r\nset-cookie: b",
    b"\x1b[2J",
    "é".encode(),
    b'{"a":1}',
    b"../../v1",
    b"a%0ab",
]


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return make_app(model, tokenizer)


def make_app(model: Model, tokenizer: Tokenizer, **settings: Any) -> App:  # noqa: ANN401
    made = Settings(slots=2, **settings)
    return App(assemble(made, "default", make_engine(model, slots=2), tokenizer))


def ask(
    app: App,
    path: str = "/v1/completions",
    body: dict[str, Any] = ASK,
    method: str = "POST",
    **headers: bytes,
) -> MemoryClient:
    told = tuple((name.replace("_", "-").encode(), value) for name, value in headers.items())
    return MemoryClient(app, method, path, body=json.dumps(body).encode(), headers=told)


EVERYWHERE = [
    ("POST", "/v1/completions", ASK, 200),
    ("POST", "/v1/completions", ASK | {"stream": True}, 200),
    ("POST", "/v1/completions", {}, 400),
    ("POST", "/v1/completions", ASK | {"model": "nobody"}, 404),
    ("GET", "/v1/completions", {}, 405),
    ("GET", "/v1/models", {}, 200),
    ("GET", "/v1/models/nobody", {}, 404),
    ("GET", "/nowhere", {}, 404),
    ("DELETE", "/v1/models", {}, 405),
    ("POST", "/v1/jobs", ASK, 202),
    ("GET", "/v1/stream", {}, 400),
    ("GET", "/health", {}, 200),
    ("GET", "/metrics", {}, 200),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), EVERYWHERE)
async def test_every_response_has_the_id_that_its_client_gave(
    app: App, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    async with running(app):
        client = await fetch(ask(app, path, body, method, x_request_id=MINE))
    assert (client.status, client.headers[b"x-request-id"]) == (status, MINE)


# Quart does not take headers with line ends, which no HTTP parser lets through.
UNUSABLE = [
    (path, given)
    for path in ("/v1/completions", "/nowhere")
    for given in HOSTILE
    if path != "/nowhere" or b"\n" not in given
]


@pytest.mark.parametrize(("path", "given"), UNUSABLE)
async def test_an_id_that_cannot_be_used_is_replaced(app: App, path: str, given: bytes) -> None:
    async with running(app):
        client = await fetch(ask(app, path, x_request_id=given))
    assert re.fullmatch(rb"[0-9a-f]{24}", client.headers[b"x-request-id"])


async def test_an_id_that_names_a_running_request_is_replaced_and_an_ended_one_is_not(
    app: App,
) -> None:
    waiting = MemoryClient(
        app,
        "POST",
        "/v1/completions",
        body=json.dumps(ASK | {"stream": True}).encode(),
        headers=((b"x-request-id", MINE),),
        reads=0,
    )
    async with running(app), trio.open_nursery() as nursery:
        nursery.start_soon(waiting.run)
        while not waiting.status:
            await trio.lowlevel.checkpoint()
        beside = await fetch(ask(app, x_request_id=MINE))
        assert beside.headers[b"x-request-id"] != MINE
        waiting.read(100)
        await waiting._left.wait()
    async with running(app):
        again = await fetch(ask(app, x_request_id=MINE))
    assert again.headers[b"x-request-id"] == MINE


async def test_an_answer_has_a_name_of_its_own_where_the_request_has_the_clients(app: App) -> None:
    async with running(app):
        with capture_logs() as lines:
            client = await fetch(ask(app, x_request_id=MINE, user_agent=b"curl/8"))
    (line,) = lines
    assert MINE.decode() not in client.json["id"]
    assert line["request_id"] == MINE.decode()
    assert line["generation_id"] == client.json["id"]
    assert (line["route"], line["user_agent"]) == ("/v1/completions", "curl/8")
    assert (line["event"], line["reason"], line["model"]) == (
        "generation ended",
        "length",
        "default",
    )


async def test_a_job_is_logged_with_the_id_of_the_request_that_submitted_it(app: App) -> None:
    with capture_logs() as lines:
        async with running(app):
            client = await fetch(ask(app, "/v1/jobs", ASK, x_request_id=MINE))
            await fetch(ask(app, "/v1/stream", {}, "GET", x_request_id=b"reader"))
            log = await app.service.jobs.find("", client.json["job_id"])
            await log.wait_end()
    (ended,) = [line for line in lines if line["event"] == "generation ended"]
    assert (ended["request_id"], ended["generation_id"]) == (MINE.decode(), client.json["job_id"])
    assert ended["route"] == "/v1/jobs"
    assert [line["event"] for line in lines if line["request_id"] == "reader"] == [
        "request refused"
    ]


async def test_a_generation_on_a_socket_is_logged_under_the_name_it_was_told(app: App) -> None:
    peer = SocketPeer(app)
    with capture_logs() as lines:
        async with running(app), trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            peer.tell("start", **ASK)
            told = await peer.hear("complete")
            peer.tell("start", prompt="")
            await peer.hear("error")
            peer.leave()
    # A client may ask again before the books of its last answer are closed.
    ended, refused = sorted(lines, key=lambda line: str(line["event"]))
    assert (ended["generation_id"], ended["route"]) == (told["job_id"], "/v1/ws")
    assert ended["completion_tokens"] == told["usage"]["completion_tokens"]
    assert (refused["event"], refused["code"]) == ("request refused", "invalid_value")
    assert refused["request_id"] == ended["request_id"]


async def test_each_reader_of_a_job_leaves_a_line_of_its_own(app: App) -> None:
    with capture_logs() as lines:
        async with running(app):
            job_id = (await fetch(ask(app, "/v1/jobs", ASK))).json["job_id"]
            for name in (b"one", b"two"):
                await fetch(
                    MemoryClient(
                        app,
                        "GET",
                        "/v1/stream",
                        query=f"job_id={job_id}",
                        headers=((b"x-request-id", name),),
                    )
                )
    read = [line for line in lines if line["event"] == "job read"]
    assert [line["request_id"] for line in read] == ["one", "two"]
    for line in read:
        assert (line["generation_id"], line["reason"]) == (job_id, "length")
        assert line["delivered_tokens"] == ASK["max_tokens"]


@pytest.mark.parametrize(("method", "path", "body", "status"), EVERYWHERE)
async def test_every_request_leaves_one_line(
    app: App, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    with capture_logs() as lines:
        async with running(app):
            await fetch(ask(app, path, body, method, x_request_id=MINE))
            for served in app.service.models.values():
                while served.decoder.schedule.active:
                    await trio.lowlevel.checkpoint()
    told = [line["event"] for line in lines]
    if path in ("/health", "/metrics"):
        assert told == []
    elif status >= 400:
        assert told == ["request refused"]
        assert lines[0]["status"] == status
    elif path in ("/v1/jobs", "/v1/models"):
        assert told.count("request answered") == 1
    else:
        assert told == ["generation ended"]
    assert {line["request_id"] for line in lines} <= {MINE.decode()}


@pytest.mark.parametrize(
    ("path", "offered", "status"), [("/v1/ws", ["other"], 400), ("/nowhere", [], 404)]
)
async def test_a_handshake_that_is_refused_has_the_id_and_leaves_a_line(
    app: App, path: str, offered: list[str], status: int
) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"x-request-id", MINE)]
    scope = {"type": "websocket", "path": path, "headers": headers, "subprotocols": offered}
    with capture_logs() as lines:
        await app(scope, receive, send)
    assert (sent[0]["status"], (b"x-request-id", MINE) in sent[0]["headers"]) == (status, True)
    (line,) = lines
    assert (line["event"], line["status"]) == ("request refused", status)
    assert line["request_id"] == MINE.decode()


@pytest.mark.parametrize("log_prompts", [False, True])
async def test_prompts_are_logged_where_that_was_asked_for_only(
    model: Model, tokenizer: Tokenizer, log_prompts: bool
) -> None:
    app = make_app(model, tokenizer, log_prompts=log_prompts)
    with capture_logs() as lines:
        async with running(app):
            await fetch(ask(app, "/v1/chat/completions", CHAT))
            await fetch(ask(app, body=ASK | {"prompt": "a secret prompt"}))
            query = "prompt=a+secret+query&max_tokens=2"
            await fetch(MemoryClient(app, "GET", "/chat/stream", query=query))
    ended = [line for line in lines if line["event"] == "generation ended"]
    prompts = [line.get("prompt") for line in ended]
    if log_prompts:
        assert prompts == ["user: a secret question", "a secret prompt", "user: a secret query"]
    else:
        assert prompts == [None] * 3
        assert "secret" not in repr(lines)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_timings_are_told_with_the_end_where_they_are_asked_for(
    app: App, path: str, stream: bool
) -> None:
    body = (CHAT if "chat" in path else ASK) | {"stream": stream}
    async with running(app):
        plain = await fetch(ask(app, path, body))
        timed = await fetch(ask(app, path, body, x_penstock_timings=b"1"))
    assert b"timings" not in plain.body
    if stream:
        chunks = [
            json.loads(line[6:]) for line in timed.body.splitlines() if line[:7] == b"data: {"
        ]
        assert all("timings" not in chunk for chunk in chunks[:-1])
        told = chunks[-1]["timings"]
    else:
        told = timed.json["timings"]
        assert told["prompt_n"] == timed.json["usage"]["prompt_tokens"]
    assert told["predicted_n"] == 3
    assert told["prompt_ms"] > 0
    assert told["predicted_ms"] > 0
