"""Routes over an ASGI server in memory: statuses before headers, headers before the stream."""

from __future__ import annotations

import json
import zlib

import pytest
import trio
from trio.testing import MockClock

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings, build
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import make_engine

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, object] = {
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "temperature": 0,
}


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return App(
        assemble(Settings(slots=4, queue=4), "default", make_engine(model, slots=4), tokenizer)
    )


def error_of(client: MemoryClient) -> tuple[int, str, str | None]:
    told = client.json["error"]
    assert set(told) >= {"message", "type", "param", "code"}
    assert client.headers[b"content-type"] == b"application/json"
    return client.status, told["code"], told["param"]


@pytest.mark.parametrize(
    ("path", "more"), [(CHAT, ASK), (TEXT, {"prompt": "Once", "temperature": 0})]
)
async def test_the_pieces_of_a_stream_are_the_text_of_the_whole(
    app: App, path: str, more: dict[str, object]
) -> None:
    async with running(app):
        whole = await fetch(post(app, path, {"max_tokens": 20, **more}))
        stream = await fetch(post(app, path, {"max_tokens": 20, "stream": True, **more}))
    choice = whole.json["choices"][0]
    assert stream.text == (choice["message"]["content"] if path == CHAT else choice["text"])
    assert stream.text
    assert stream.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert stream.headers[b"cache-control"] == b"no-cache, no-transform"
    assert b"content-length" not in stream.headers
    assert whole.json["id"].endswith(whole.headers[b"x-request-id"].decode())


async def test_a_seed_repeats_a_sampled_text_and_another_does_not(app: App) -> None:
    ask: dict[str, object] = {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 1.2}
    async with running(app):
        texts = [
            (await fetch(post(app, TEXT, ask | {"seed": seed}))).text_of() for seed in (5, 5, 6)
        ]
    assert texts[0] == texts[1] != texts[2]


async def test_usage_is_the_same_streamed_and_not(app: App) -> None:
    async with running(app):
        asked = ASK | {"max_tokens": 9, "ignore_eos": True}
        whole = await fetch(post(app, CHAT, asked))
        usage = {"include_usage": True}
        stream = await fetch(post(app, CHAT, asked | {"stream": True, "stream_options": usage}))
    last = json.loads(stream.body.decode().split("\n\n")[-3][6:])
    assert last["choices"] == []
    assert last["usage"] == whole.json["usage"]
    assert last["usage"]["completion_tokens"] == 9


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"max_tokens": 100_000}, 400, "context_length_exceeded", "max_tokens"),
        ({"model": "gpt-5"}, 404, "model_not_found", "model"),
        (
            {"messages": [{"role": "user", "content": "word " * 500}]},
            400,
            "context_length_exceeded",
            "messages",
        ),
        (
            {"messages": [{"role": "judge", "content": "4"}]},
            400,
            "invalid_value",
            "messages[0].role",
        ),
    ],
)
async def test_what_cannot_be_done_is_a_status_also_for_a_stream(
    app: App, changes: dict[str, object], status: int, code: str, param: str
) -> None:
    async with running(app):
        for stream in (False, True):
            client = await fetch(post(app, CHAT, ASK | {"stream": stream} | changes))
            assert error_of(client) == (status, code, param)
    assert app.service.default.admission.taken == 0


@pytest.mark.parametrize("name", [None, "", "default", "dummy", "tgi", "https://x/v1"])
async def test_names_that_clients_send_unasked_are_the_first_model(
    app: App, name: str | None
) -> None:
    async with running(app):
        client = await fetch(post(app, CHAT, ASK | {"model": name, "max_tokens": 1}))
    assert client.json["model"] == "default"


async def test_a_full_server_refuses_at_once_with_retry_after(
    model: Model, tokenizer: Tokenizer
) -> None:
    service = assemble(
        Settings(slots=1, queue=0), "default", make_engine(model, slots=1), tokenizer
    )
    app = App(service)
    asked = {"prompt": "Once", "max_tokens": 50, "stream": True, "ignore_eos": True}
    blocked = post(app, TEXT, asked, reads=1)
    async with running(app), trio.open_nursery() as clients:
        clients.start_soon(blocked.run)
        while not blocked.body:
            await trio.testing.wait_all_tasks_blocked()
        refused = await fetch(post(app, TEXT, {"prompt": "Once", "stream": True}))
        assert error_of(refused) == (429, "overloaded", None)
        assert 1 <= int(refused.headers[b"retry-after"]) <= 60
        blocked.leave()
    assert service.default.admission.taken == 0


async def test_a_body_over_the_limit_is_413_declared_or_not(
    model: Model, tokenizer: Tokenizer
) -> None:
    settings = Settings(slots=1, max_body_bytes=2000)
    app = App(assemble(settings, "default", make_engine(model, slots=1), tokenizer))
    body = json.dumps({"prompt": "x" * 3000}).encode()
    for headers in ((), ((b"content-length", b"3014"),)):
        client = await fetch(MemoryClient(app, "POST", TEXT, body=body, headers=headers))
        assert error_of(client) == (413, "request_too_large", None)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate, gzip", b"identity", b""])
async def test_a_body_that_is_encoded_is_refused_by_name(app: App, coding: bytes) -> None:
    headers = ((b"content-encoding", coding),)
    body = b"{" if coding in (b"identity", b"") else zlib.compress(b"{}")
    client = await fetch(MemoryClient(app, "POST", TEXT, body=body, headers=headers))
    if coding in (b"identity", b""):
        assert error_of(client) == (400, "invalid_json", None)
    else:
        assert error_of(client) == (400, "invalid_value", "content-encoding")
        assert coding.decode() in client.json["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_open_no_generation(app: App, method: str) -> None:
    client = await fetch(MemoryClient(app, method, CHAT))
    assert client.status == 405
    assert client.headers[b"allow"] == b"POST"
    assert b"penstock_requests_started_total 0.0" in app.service.metrics.render()


async def test_an_event_source_that_reconnects_is_sent_away_politely(app: App) -> None:
    async with running(app):
        first = await fetch(
            MemoryClient(app, "GET", "/chat/stream", query="prompt=Hi&max_tokens=5")
        )
        again = await fetch(
            MemoryClient(
                app, "GET", "/chat/stream", query="prompt=Hi", headers=((b"last-event-id", b"x:1"),)
            )
        )
    assert first.body.startswith(b"event: token\nid: job_")
    assert (again.status, again.body) == (204, b"")
    # RFC 9110 8.6 forbids it there.
    assert b"content-length" not in again.headers


async def test_silence_before_the_first_token_sends_headers_and_a_heartbeat(
    autojump_clock: MockClock, model: Model, tokenizer: Tokenizer
) -> None:
    """The decoder does not run here, so that the wait has no end but the client's."""
    app = App(assemble(build({"slots": 1}), "default", make_engine(model, slots=1), tokenizer))
    client = post(app, TEXT, {"prompt": "Once", "stream": True})
    with trio.move_on_after(40):
        await client.run()
    assert client.status == 200
    assert client.body == b": keep-alive\n\n" * 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/models/other", 404),
        ("GET", "/", 404),
    ],
)
async def test_every_error_of_every_path_is_json(
    app: App, method: str, path: str, status: int
) -> None:
    client = await fetch(MemoryClient(app, method, path))
    assert client.status == status
    assert client.json["error"]["message"]


async def test_a_prompt_without_a_limit_makes_64_tokens_or_what_fits(app: App) -> None:
    """MAX_LEN is 192 here: the long prompt leaves less room than the default."""
    async with running(app):
        short = await fetch(post(app, TEXT, {"prompt": "Once", "ignore_eos": True}))
        long = await fetch(post(app, TEXT, {"prompt": "once " * 160, "ignore_eos": True}))
    assert short.json["usage"]["completion_tokens"] == 64
    assert 1 <= long.json["usage"]["completion_tokens"] < 64
    assert long.json["usage"]["total_tokens"] == 192


async def test_every_response_has_an_id(app: App) -> None:
    for method, path in (("GET", "/health"), ("GET", "/nope"), ("POST", TEXT)):
        client = await fetch(MemoryClient(app, method, path))
        assert client.headers[b"x-request-id"]


async def test_models_are_listed_and_default_is_always_one(app: App) -> None:
    listed = (await fetch(MemoryClient(app, "GET", "/v1/models"))).json
    named = (await fetch(MemoryClient(app, "GET", "/v1/models/default"))).json
    assert listed == {"object": "list", "data": [named]}
    assert named["created"] > 1_700_000_000
    assert {key: named[key] for key in ("id", "object", "owned_by")} == {
        "id": "default",
        "object": "model",
        "owned_by": "penstock",
    }


async def test_ready_tells_whether_it_can_decode(app: App) -> None:
    async def ready() -> tuple[int, str]:
        client = await fetch(MemoryClient(app, "GET", "/ready"))
        return client.status, client.json.get("reason", "ready")

    assert await ready() == (503, "loading")
    async with running(app):
        await trio.testing.wait_all_tasks_blocked()
        assert await ready() == (200, "ready")
        await app.service.drain(0)
        assert await ready() == (503, "draining")
        refused = await fetch(post(app, CHAT, ASK))
        assert error_of(refused) == (429, "unavailable", None)
    assert (await fetch(MemoryClient(app, "GET", "/health"))).status == 200
