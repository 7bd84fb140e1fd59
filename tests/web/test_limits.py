"""What a key may use, on every route that generates: how it ends, and what is counted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from penstock.access.memory_ledger import MemoryLedger
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.requests import ANYBODY, Limit
from penstock.web.app import ROUTES, App
from penstock.web.exchange import Exchange
from tests.asgi import MemoryClient, running
from tests.inline import InlineThread
from tests.jobs.clients import ask, blocks, data
from tests.jobs.clients import make_app as make_open_app
from tests.jobs.socket_peer import SocketPeer
from tests.peers import GatedEngine
from tests.web.doors import ANN, BEN, bearer, make_locked_app, make_ring
from tests.web.test_disconnect import count
from tests.web.test_routes import error_of

QUOTA = Limit("tokens_per_day", 100)
LONG: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 150, "ignore_eos": True}
CHAT: dict[str, Any] = {**LONG, "messages": [{"role": "user", "content": "Hello"}]}
del CHAT["prompt"]
SHOWN = {"authorization": f"Bearer {ANN}"}

End: TypeAlias = Callable[[App], Awaitable[dict[str, Any]]]
"""Asks for more than the quota, and gives the error that it ends with."""


async def last_of(app: App, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await ask(app, "POST", path, body | {"stream": True}, **SHOWN)
    assert answer.status == 200
    lines = [line for line in answer.body.decode().splitlines() if line]
    error: dict[str, Any] = json.loads(lines[-1].removeprefix("data: "))["error"]
    return error


async def on_text(app: App) -> dict[str, Any]:
    return await last_of(app, "/v1/completions", LONG)


async def on_chat(app: App) -> dict[str, Any]:
    return await last_of(app, "/v1/chat/completions", CHAT)


async def on_two_choices(app: App) -> dict[str, Any]:
    return await last_of(app, "/v1/completions", LONG | {"n": 2})


async def on_whole(app: App) -> dict[str, Any]:
    answer = await ask(app, "POST", "/v1/completions", LONG, **SHOWN)
    assert (answer.status, answer.headers[b"x-should-retry"]) == (429, b"false")
    assert answer.headers[b"retry-after"] == b"86400"
    error: dict[str, Any] = answer.json["error"]
    return error


async def on_a_job(app: App) -> dict[str, Any]:
    made = await ask(app, "POST", "/v1/jobs", LONG, **SHOWN)
    told = await ask(app, "GET", made.json["stream_url"], **SHOWN)
    last = blocks(told.body)[-1]
    assert b"event: job_error" in last
    error: dict[str, Any] = data(last)["error"]
    return error


async def on_chat_stream(app: App) -> dict[str, Any]:
    path = "/chat/stream?prompt=Tell+me+a+very+long+story&max_tokens=150&temperature=2&seed=1"
    told = await ask(app, "GET", path, **SHOWN)
    error: dict[str, Any] = data(blocks(told.body)[-1])["error"]
    return error


async def on_a_socket(app: App, **more: object) -> dict[str, Any]:
    peer = SocketPeer(app, headers=(bearer(ANN),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        peer.tell("start", **LONG, **more)
        error: dict[str, Any] = (await peer.hear("error"))["error"]
        peer.tell("cancel")  # the socket stays open
        await trio.testing.wait_all_tasks_blocked()
        assert peer.code is None
        peer.leave()
    return error


async def on_a_resumable_socket(app: App) -> dict[str, Any]:
    return await on_a_socket(app, resumable=True)


ENDS: dict[str, tuple[End, ...]] = {
    "/v1/completions": (on_text, on_two_choices, on_whole),
    "/v1/chat/completions": (on_chat,),
    "/chat/stream": (on_chat_stream,),
    "/v1/stream": (on_a_job,),
    "/v1/ws": (on_a_socket, on_a_resumable_socket),
}


NEARLY_ALL = " ".join(["Once upon a time"] * 15)
ON = {"ignore_eos": True}
DIALECTS: dict[str, tuple[dict[str, Any], str]] = {
    "/": ({"inputs": NEARLY_ALL, "parameters": ON}, '"error_type":"overloaded"'),
    "/generate": ({"inputs": NEARLY_ALL, "parameters": ON}, '"error_type":"overloaded"'),
    "/generate_stream": ({"inputs": NEARLY_ALL, "parameters": ON}, '"error_type":"overloaded"'),
    "/v1/messages": (
        {
            "messages": [{"role": "user", "content": NEARLY_ALL}],
            "max_tokens": 50,
            "stream": True,
            **ON,
        },
        '"type":"rate_limit_error"',
    ),
    "/v1/responses": ({"input": NEARLY_ALL, "stream": True, **ON}, '"code":"quota_exceeded"'),
}
"""Bodies, and how their answers tell that the quota is used up."""
COUNTING = {"/v1/messages/count_tokens", "/tokenize", "/detokenize", "/v1/events"}


def test_every_route_that_generates_is_tried() -> None:
    assert {*ROUTES, "/v1/ws"} == {*ENDS, *DIALECTS, *COUNTING}


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_quota_ends_an_answer_of_any_dialect(
    model: Model, tokenizer: Tokenizer, tmp_path: Path, path: str
) -> None:
    body, word = DIALECTS[path]
    app = make_app(model, tokenizer, tmp_path, {"tokens_per_day": 100})
    async with running(app):
        answer = await ask(app, "POST", path, body, **SHOWN)
        assert await app.service.ledger.used("ann", QUOTA) == 100
        again = await ask(app, "POST", path, body, **SHOWN)
        keyless = await ask(app, "POST", path, body)
    assert word in answer.body.decode().replace(": ", ":")
    assert (again.status, again.headers[b"retry-after"]) == (429, b"86400")
    assert word in again.body.decode()
    assert keyless.status == 401
    assert count(app, "requests_failed_total", reason="quota") == 1


def make_app(
    model: Model,
    tokenizer: Tokenizer,
    folder: Path,
    allowed: dict[str, Any],
    **settings: Any,  # noqa: ANN401  # passed on
) -> App:
    app = make_locked_app(model, tokenizer, make_ring(folder, **allowed), **settings)
    app.service.ledger = MemoryLedger(lambda: 0.0)
    return app


@pytest.mark.parametrize("end", [end for ends in ENDS.values() for end in ends])
async def test_a_quota_ends_it_at_its_last_token(
    model: Model, tokenizer: Tokenizer, tmp_path: Path, end: End
) -> None:
    app = make_app(model, tokenizer, tmp_path, {"tokens_per_day": 100})
    async with running(app):
        error = await end(app)
        assert error["code"] == "quota_exceeded"
        assert error["type"] == "insufficient_quota"
        assert error.get("retry_after", 86_400) == 86_400
        assert await app.service.ledger.used("ann", QUOTA) == 100
        told = (await ask(app, "GET", "/v1/usage", **SHOWN)).json
    tokens = count(app, "prompt_tokens_total") + count(app, "generated_tokens_total")
    assert tokens == 100
    assert count(app, "requests_failed_total", reason="quota") == 1
    assert told == {
        "object": "usage",
        "account": "ann",
        "limits": [{"unit": "tokens_per_day", "limit": 100, "used": 100, "left": 0}],
        "streams": {"limit": None, "open": 0},
    }


async def test_who_has_used_up_its_day_is_refused_and_others_are_not(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    app = make_app(model, tokenizer, tmp_path, {"tokens_per_day": 100})
    async with running(app):
        await on_text(app)
        for method, path, body in (
            ("POST", "/v1/completions", LONG),
            ("POST", "/v1/jobs", LONG),
            ("GET", "/chat/stream?prompt=x", None),
        ):
            answer = await ask(app, method, path, body, **SHOWN)
            assert error_of(answer) == (429, "quota_exceeded", None)
            assert answer.headers[b"retry-after"] == b"86400"
            assert answer.headers[b"x-should-retry"] == b"false"
        other = await ask(app, "POST", "/v1/completions", LONG, authorization=f"Bearer {BEN}")
    assert other.json["usage"]["completion_tokens"] == 150


async def test_requests_a_minute_and_streams_at_once_are_refused_with_when_to_come_back(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    app = make_app(model, tokenizer, tmp_path, {"requests_per_minute": 3, "streams": 1})
    short = LONG | {"max_tokens": 1}
    async with running(app), trio.open_nursery() as nursery:
        held = MemoryClient(
            app,
            "POST",
            "/v1/completions",
            body=json.dumps(LONG | {"stream": True}).encode(),
            headers=(bearer(ANN),),
            reads=1,
        )
        nursery.start_soon(held.run)
        while not held.status:
            await trio.testing.wait_all_tasks_blocked()
        answer = await ask(app, "POST", "/v1/completions", short, **SHOWN)
        assert error_of(answer) == (429, "overloaded", None)
        assert "too many requests running" in answer.json["error"]["message"]
        held.leave()
        await trio.testing.wait_all_tasks_blocked()
        answers = [await ask(app, "POST", "/v1/completions", short, **SHOWN) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert error_of(answers[-1]) == (429, "overloaded", None)
    assert answers[-1].headers[b"retry-after"] == b"20"


async def test_a_request_that_is_refused_after_it_was_counted_costs_nothing(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    requests = Limit("requests_per_minute", 5)
    limits = {"tokens_per_day": 100, "requests_per_minute": 5}
    app = make_app(model, tokenizer, tmp_path, limits, max_jobs=1)
    short = LONG | {"max_tokens": 10}
    async with running(app):
        kept = await ask(app, "POST", "/v1/jobs", short, **SHOWN)
        while (await ask(app, "GET", kept.json["stream_url"], **SHOWN)).status != 200:
            await trio.lowlevel.checkpoint()
        full = await ask(app, "POST", "/v1/jobs", short, **SHOWN)
        assert error_of(full) == (429, "overloaded", None)
        large = await ask(app, "POST", "/v1/completions", short | {"prompt": "a " * 99}, **SHOWN)
        assert error_of(large) == (429, "quota_exceeded", None)
        assert await app.service.ledger.used("ann", requests) == 1
        assert await app.service.ledger.used("ann", QUOTA) == 15


async def test_models_that_are_not_allowed_are_unknown_on_every_route(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    app = make_app(model, tokenizer, tmp_path, {"models": ("other",)})
    async with running(app):
        for method, path, body in (
            ("POST", "/v1/completions", LONG),
            ("POST", "/v1/chat/completions", CHAT),
            ("POST", "/v1/jobs", LONG),
            ("GET", "/chat/stream?prompt=x", None),
        ):
            answer = await ask(app, method, path, body, **SHOWN)
            assert error_of(answer) == (404, "model_not_found", "model"), path
        assert (await on_a_socket(app))["code"] == "model_not_found"
    assert count(app, "requests_started_total") == 0


async def test_a_minutes_tokens_of_the_whole_server_are_shared_by_all_keys(
    model: Model, tokenizer: Tokenizer, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Of 20, the first takes 5 + 10. A prompt of 5 still fits, and each token then waits 3 s."""
    app = make_app(model, tokenizer, tmp_path, {}, tokens_per_minute=20)
    app.service.ledger = MemoryLedger(trio.current_time)
    app.service.default.decoder.thread = InlineThread()
    ended_s = []
    async with running(app):
        for secret, tokens in ((ANN, 10), (BEN, 5)):
            asked = LONG | {"max_tokens": tokens}
            shown = f"Bearer {secret}"
            answer = await ask(app, "POST", "/v1/completions", asked, authorization=shown)
            assert answer.json["usage"]["completion_tokens"] == tokens
            ended_s.append(trio.current_time())
        large = LONG | {"prompt": "once " * 30}
        answer = await ask(app, "POST", "/v1/completions", large, **SHOWN)
        assert error_of(answer) == (400, "invalid_value", "prompt")
    assert ended_s == [0, pytest.approx(15)]


async def test_a_route_that_forgets_its_caller_generates_nothing(
    model: Model, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(model, tokenizer, tmp_path, {})
    monkeypatch.setattr(Exchange, "caller", ANYBODY)
    async with running(app):
        answer = await ask(app, "POST", "/v1/completions", LONG, **SHOWN)
    assert error_of(answer) == (500, "internal_error", None)
    assert count(app, "requests_started_total") == 0


async def test_sixty_four_beyond_slots_and_queue_are_sixty_four_refusals(
    model: Model, tokenizer: Tokenizer
) -> None:
    engine = GatedEngine(model, slots=8)
    app = make_open_app(model, tokenizer, engine=engine, slots=8, queue=16)
    clients = [
        MemoryClient(app, "POST", "/v1/completions", body=json.dumps(LONG).encode())
        for _ in range(8 + 16 + 64)
    ]
    async with running(app), trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.run)
        while sum(client.ended for client in clients) < 64:
            await trio.testing.wait_all_tasks_blocked()
        refused = [client for client in clients if client.ended]
        assert len(refused) == 64
        assert {error_of(client) for client in refused} == {(429, "overloaded", None)}
        assert all(1 <= int(client.headers[b"retry-after"]) <= 60 for client in refused)
        assert count(app, "requests_refused_total", code="overloaded") == 64
        assert count(app, "live") == 8 + 16
        for client in clients:
            client.leave()
        engine.permits.release(1000)
    assert count(app, "requests_cancelled_total", reason="disconnect") == 24


async def test_one_with_two_hundred_requests_does_not_delay_anothers_first(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    slots = 4
    app = make_app(model, tokenizer, tmp_path, {}, slots=slots, queue=300)
    body = json.dumps(LONG | {"max_tokens": 6, "stream": True}).encode()

    def client(secret: str, **more: Any) -> MemoryClient:  # noqa: ANN401
        return MemoryClient(
            app, "POST", "/v1/completions", body=body, headers=(bearer(secret),), **more
        )

    many, one = [client(ANN) for _ in range(200)], client(BEN)
    async with running(app), trio.open_nursery() as nursery:
        for each in many:
            nursery.start_soon(each.run)
        while sum(each.ended for each in many) < 20:
            await trio.lowlevel.checkpoint()
        before = sum(each.ended for each in many)
        nursery.start_soon(one.run)
        while not one.status:
            await trio.lowlevel.checkpoint()
        ended_when_begun = sum(each.ended for each in many)
    assert 20 <= before < 200 - slots
    assert ended_when_begun - before <= slots
    assert all(each.status == 200 for each in [*many, one])
