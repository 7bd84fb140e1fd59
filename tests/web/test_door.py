"""Nothing answers without a key, whatever its path looks like; with one, only what it allows."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from penstock.access.keys import write_keys
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.web.app import ROUTES, SOCKET_PATH, App
from penstock.web.door import OPEN_PAGES, OPEN_PATHS, Door
from tests.asgi import MemoryClient, fetch, running
from tests.jobs.clients import JOB, ask
from tests.jobs.socket_peer import SocketPeer
from tests.peers import make_engine
from tests.web.doors import ANN, BEN, ROOT, bearer, make_locked_app, make_ring
from tests.web.test_routes import error_of

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")
TRICKS = (
    "{}",
    "/{}",
    "{}/",
    "//{}",
    "/health{}",
    "/health/..{}",
    "/ready/../{}",
    "/health;{}",
    "/health%2f..{}",
    "/static/..{}",
    "/static/../..{}",
    "/static//{}",
    "/static/x/../..{}",
    "/static\\..{}",
    "/%2e{}",
    "/.{}",
    "{}%00",
    "{}\x00/health",
    "{}?/health",
    "{}#/health",
    "http://test{}",
)


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer, tmp_path: Path) -> App:
    return make_locked_app(model, tokenizer, make_ring(tmp_path))


def all_paths(app: App) -> list[str]:
    """Every path that the app has a route for, and one that it has not."""
    rules = app._ops.url_map.bind("test").map.iter_rules()
    built = ["".join(part if not is_name else "x" for is_name, part in r._trace) for r in rules]
    return sorted({*ROUTES, SOCKET_PATH, *(path.removeprefix("|") for path in built), "/none"})


async def status_of(app: App, method: str, path: str, *headers: tuple[bytes, bytes]) -> int:
    return (await fetch(MemoryClient(app, method, path, headers=headers))).status


async def test_without_a_key_every_route_is_shut_however_it_is_written(app: App) -> None:
    paths = all_paths(app)
    assert {"/v1/models", "/v1/jobs/x/cancel", "/metrics", "/v1/chat/completions"} <= {*paths}
    async with running(app):
        for path in (each for each in paths if each not in OPEN_PATHS):
            written = {trick.format(path) for trick in TRICKS}
            for way in written | {path.upper(), path.title(), path.replace("/", "//")}:
                for method in METHODS:
                    if way == "/" and method in ("GET", "HEAD"):
                        continue
                    client = await fetch(MemoryClient(app, method, way))
                    assert client.status == 401, (method, way)
                    assert client.headers[b"www-authenticate"] == b"Bearer"
    assert app.service.default.decoder.steps == 0


@pytest.mark.parametrize("path", OPEN_PATHS)
@pytest.mark.parametrize("trick", ["/{}", "{}/", "/.{}", "{}/x", "{}x", "{}\x00"])
async def test_what_is_open_is_open_by_its_own_name_only(app: App, path: str, trick: str) -> None:
    async with running(app):
        await trio.testing.wait_all_tasks_blocked()
        assert await status_of(app, "GET", path) == 200
        for other in (trick.format(path), path.upper()):
            assert await status_of(app, "GET", other) == 401


async def test_pages_are_open_for_reading_unless_it_is_said_otherwise(app: App) -> None:
    assert OPEN_PAGES == ("/", "/static/")
    there = {"/": 404, "/static/penstock.js": 200, "/static/a/b.css": 404}
    for path, status in there.items():
        for method in ("GET", "HEAD"):
            assert await status_of(app, method, path) == status
        assert await status_of(app, "POST", path) == 401
    app._door._open_pages = False
    assert await status_of(app, "GET", "/") == await status_of(app, "GET", "/static/a") == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([bearer(ANN)], 200),
        ([(b"Authorization", b"bearer   " + ANN.encode())], 200),
        ([(b"x-api-key", ANN.encode())], 200),
        ([(b"X-Api-Key", b" " + ANN.encode() + b" ")], 200),
        ([bearer(ANN), (b"x-api-key", ANN.encode())], 200),
        ([(b"authorization", b"Basic dXNlcjpwYXNz"), (b"x-api-key", ANN.encode())], 200),
        ([bearer(ANN), (b"x-api-key", BEN.encode())], 401),
        ([bearer(ANN), bearer("none")], 401),
        ([bearer(ANN.upper())], 401),
        ([bearer(ANN + "x")], 401),
        ([bearer(ANN[:-1])], 401),
        ([bearer("")], 401),
        ([bearer(ANN + " " + BEN)], 401),
        ([bearer("\xff\xfe")], 401),
        ([bearer("x" * 100_000)], 401),
        ([(b"authorization", ANN.encode())], 401),
        ([(b"authorization", b"Basic " + ANN.encode())], 401),
        ([(b"x-api-key", b"")], 401),
        ([(b"cookie", b"key=" + ANN.encode())], 401),
        ([], 401),
    ],
    ids=str,
)
async def test_a_key_is_taken_from_its_headers_exactly(
    app: App, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    client = await fetch(MemoryClient(app, "GET", "/v1/models", headers=tuple(headers)))
    assert client.status == status
    if status == 401:
        assert error_of(client) == (401, "invalid_api_key", None)
        assert client.json["error"]["type"] == "authentication_error"
        assert b"sk-penstock" not in client.body


async def test_a_key_in_the_query_is_none(app: App) -> None:
    client = MemoryClient(app, "GET", "/chat/stream", query=f"prompt=x&key={ANN}&api_key={ANN}")
    assert (await fetch(client)).status == 401


async def test_a_refusal_is_counted(app: App) -> None:
    await status_of(app, "GET", "/v1/models")
    page = app.service.metrics.render().decode()
    assert 'penstock_requests_refused_total{code="invalid_api_key"} 1.0' in page


async def test_a_key_that_is_taken_out_is_refused_at_once(app: App, tmp_path: Path) -> None:
    assert await status_of(app, "GET", "/v1/models", bearer(ANN)) == 200
    write_keys(tmp_path / "keys.json", [])
    assert await status_of(app, "GET", "/v1/models", bearer(ANN)) == 401


# WebSockets


async def shake_hands(
    app: App, path: str = SOCKET_PATH, *, protocols: tuple[str, ...] = (), key: str = ""
) -> list[dict[str, Any]]:
    """What a socket is told first; it leaves at once."""
    heard: list[dict[str, Any]] = []
    said = iter(({"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}))

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return next(said)

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(message)

    headers = [bearer(key)] if key else []
    scope = {"type": "websocket", "path": path, "headers": headers, "subprotocols": protocols}
    await app(scope, receive, send)
    return heard


def offered(secret: str) -> str:
    return "penstock.key." + urlsafe_b64encode(secret.encode()).decode().rstrip("=")


@pytest.mark.parametrize("path", [SOCKET_PATH, "/", "/health", "/static/x", "/ready", "//v1/ws"])
@pytest.mark.parametrize(
    "protocols",
    [
        (),
        ("penstock.v1",),
        ("penstock.v1", offered("none")),
        ("penstock.v1", "penstock.key."),
        ("penstock.v1", "penstock.key.!!!!"),
        ("penstock.v1", f"penstock.key.{ANN}"),
        ("penstock.v1", "penstock.key.\xff"),
        ("penstock.v1", offered(ANN), offered(BEN)),
    ],
)
async def test_a_socket_without_a_key_is_refused_before_it_is_accepted(
    app: App, path: str, protocols: tuple[str, ...]
) -> None:
    start, body = await shake_hands(app, path, protocols=protocols)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert b"invalid_api_key" in body["body"]


async def test_a_socket_has_its_key_in_a_header_or_beside_its_protocol(app: App) -> None:
    for answers in (
        await shake_hands(app, protocols=("penstock.v1",), key=ANN),
        await shake_hands(app, protocols=("penstock.v1", offered(ANN))),
        await shake_hands(app, protocols=(offered(ANN), "penstock.v1")),
    ):
        assert [(each["type"], each["subprotocol"]) for each in answers] == [
            ("websocket.accept", "penstock.v1")
        ]
        assert ANN not in str(answers)
    (told,) = await shake_hands(app, key=ANN)
    assert (told["type"], told["subprotocol"]) == ("websocket.accept", None)
    start, _ = await shake_hands(app, protocols=(offered(ANN),))
    assert start["status"] == 400


async def test_a_refusal_is_logged_with_who_was_refused(app: App) -> None:
    body = b'{"prompt": ""}'
    with capture_logs() as lines:
        for headers in ((bearer(ANN),), ()):
            await fetch(MemoryClient(app, "POST", "/v1/completions", body=body, headers=headers))
    assert [(line["code"], line.get("account")) for line in lines] == [
        ("invalid_value", "ann"),
        ("invalid_api_key", None),
    ]
    assert ANN not in str(lines)


async def test_a_socket_that_outlives_its_key_starts_nothing_more(app: App, tmp_path: Path) -> None:
    peer = SocketPeer(app, headers=(bearer(ANN),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.service.run)
        nursery.start_soon(peer.run)
        peer.tell("start", prompt="Once", max_tokens=2)
        await peer.hear("complete")
        write_keys(tmp_path / "keys.json", [])
        peer.tell("start", prompt="Once", max_tokens=2)
        assert (await peer.hear("error"))["error"]["code"] == "invalid_api_key"
        with trio.fail_after(5):
            while peer.code is None:
                await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert peer.code == 4401


# What a key is for


async def test_metrics_are_for_admins(app: App) -> None:
    assert await status_of(app, "GET", "/metrics", bearer(ROOT)) == 200
    client = await fetch(MemoryClient(app, "GET", "/metrics", headers=(bearer(ANN),)))
    assert error_of(client) == (403, "forbidden", None)


async def test_models_that_a_key_may_not_use_are_not_there(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    app = make_locked_app(model, tokenizer, make_ring(tmp_path, models=("other",)))
    listed = await fetch(MemoryClient(app, "GET", "/v1/models", headers=(bearer(ANN),)))
    assert listed.json["data"] == []
    assert await status_of(app, "GET", "/v1/models/default", bearer(ANN)) == 404
    assert await status_of(app, "GET", "/v1/models/default", bearer(BEN)) == 200


def shows(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def test_a_job_is_there_for_its_own_key_only(app: App) -> None:
    async with running(app):
        made = await ask(app, "POST", "/v1/jobs", JOB, **shows(ANN))
        job_id = made.json["job_id"]
        for method, path in (
            ("GET", f"/v1/jobs/{job_id}"),
            ("POST", f"/v1/jobs/{job_id}/cancel"),
            ("POST", f"/v1/jobs/{job_id}/ack"),
            ("GET", f"/v1/stream?job_id={job_id}"),
            ("DELETE", f"/v1/jobs/{job_id}"),
        ):
            for secret in (BEN, ROOT):
                answer = await ask(app, method, path, {"id": 1}, **shows(secret))
                assert error_of(answer) == (404, "job_not_found", None), path
        assert (await ask(app, "GET", "/v1/jobs", **shows(BEN))).json["data"] == []
        told = await ask(app, "GET", f"/v1/stream?job_id={job_id}", **shows(ANN))
        assert b"job_complete" in told.body
        (listed,) = (await ask(app, "GET", "/v1/jobs", **shows(ANN))).json["data"]
        assert listed["job_id"] == job_id


async def test_an_idempotency_key_counts_for_its_own_key_only(app: App) -> None:
    async with running(app):
        answers = [
            await ask(app, "POST", "/v1/jobs", body, idempotency_key="same", **shows(secret))
            for secret, body in ((ANN, JOB), (BEN, JOB | {"seed": 1}), (ANN, JOB))
        ]
    assert [answer.status for answer in answers] == [202, 202, 200]
    ids = [answer.json["job_id"] for answer in answers]
    assert ids[0] == ids[2] != ids[1]


async def test_a_stream_of_chat_goes_on_for_its_own_key_only(app: App) -> None:
    async with running(app):
        path = "/chat/stream?prompt=Hello&max_tokens=4"
        told = (await ask(app, "GET", path, **shows(ANN))).body.decode()
        place = told.split("id: ")[1].split("\n")[0]
        again = {ANN: 200, BEN: 204}
        for secret, status in again.items():
            answer = await ask(app, "GET", path, last_event_id=place, **shows(secret))
            assert answer.status == status


@pytest.mark.parametrize(("secret", "status"), [(ANN, 200), (BEN, 404), (ROOT, 200)])
async def test_a_request_is_cancelled_with_its_own_key_or_an_admins(
    app: App, secret: str, status: int
) -> None:
    client = MemoryClient(
        app,
        "POST",
        "/v1/completions",
        body=b'{"prompt":"Once","stream":true,"max_tokens":150,"ignore_eos":true}',
        headers=(bearer(ANN),),
        reads=3,
    )
    async with running(app), trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await trio.testing.wait_all_tasks_blocked()
        while not client.status:
            await trio.testing.wait_all_tasks_blocked()
        number = client.headers[b"x-request-id"].decode()
        answer = await ask(app, "POST", f"/v1/requests/{number}/cancel", **shows(secret))
        assert answer.status == status
        client.read(1000)
        await trio.testing.wait_all_tasks_blocked()
        client.leave()


async def test_what_one_key_has_asked_is_no_faster_for_another(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """The time to the first token would tell: here, whether chunks of the prompt were known."""
    engine = make_engine(model, slots=4, prefix_cache_bytes=1 << 24)
    app = make_locked_app(model, tokenizer, make_ring(tmp_path), engine=engine)
    asked = {"prompt": "once upon a time " * 12, "max_tokens": 2}
    known = []
    async with running(app):
        for secret, path in (
            (ANN, "/v1/completions"),
            (BEN, "/v1/completions"),
            (ROOT, "/v1/jobs"),
            (ANN, "/v1/jobs"),
            (BEN, "/v1/completions"),
        ):
            before = engine.prefixes.hits
            answer = await ask(app, "POST", path, asked, **shows(secret))
            if path == "/v1/jobs":
                await ask(app, "GET", answer.json["stream_url"], **shows(secret))
            known.append(engine.prefixes.hits - before)
    chunks = known[-1]
    assert chunks > 0
    assert known == [0, 0, 0, chunks, chunks]


async def test_without_keys_an_account_is_an_address(app: App) -> None:
    app._door = Door()
    told = (await fetch(MemoryClient(app, "GET", "/v1/usage"))).json
    streams = {"limit": None, "open": 0}
    assert told == {"object": "usage", "account": "127.0.0.1", "limits": [], "streams": streams}
