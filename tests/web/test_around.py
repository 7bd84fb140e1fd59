"""What stands around the application: origins that may ask, proxies that are believed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from penstock.settings import Settings
from penstock.web.cors import Asgi, is_foreign
from penstock.web.edge import wrap
from penstock.web.exchange import Receive, Send
from penstock.web.forwarded import Forwarded, ForwardedError, parse_networks

Headers = dict[str, str]


class Echo:
    """An application that keeps the scope it was given."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"told", "more_body": False})


async def ask(
    app: Asgi,
    *,
    method: str = "GET",
    client: tuple[str, int] | None = ("10.0.0.1", 1),
    kind: str = "http",
    **headers: str,
) -> tuple[int, Headers]:
    """Status and headers of the answer."""
    told: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    pairs = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": kind, "method": method, "scheme": "http", "client": client, "headers": pairs}
    await app(scope, receive, send)
    return told[0]["status"], {key.decode(): value.decode() for key, value in told[0]["headers"]}


async def preflight(app: Asgi) -> tuple[int, Headers]:
    origin = "https://a.example"
    return await ask(app, method="OPTIONS", origin=origin, access_control_request_method="POST")


async def test_without_origins_nothing_is_added() -> None:
    assert isinstance(wrap(echo := Echo(), Settings()), Echo)
    assert await preflight(wrap(echo, Settings())) == (200, {"x": "y"})


@pytest.mark.parametrize("origins", ["https://a.example", "https://b.example, https://a.example"])
async def test_a_named_origin_may_ask(origins: str) -> None:
    app = wrap(Echo(), Settings(cors_origins=origins))
    status, headers = await preflight(app)
    assert status == 204
    assert headers["access-control-allow-origin"] == "https://a.example"
    assert "POST" in headers["access-control-allow-methods"]
    for name in ("authorization", "content-type", "last-event-id", "idempotency-key"):
        assert name in headers["access-control-allow-headers"]
    status, headers = await ask(app, origin="https://a.example")
    assert (status, headers["x"]) == (200, "y")
    assert headers["access-control-allow-origin"] == "https://a.example"
    assert headers["vary"] == "Origin"


async def test_a_page_may_send_what_its_client_sends_and_read_what_that_needs() -> None:
    """OpenAI's and Anthropic's clients add headers of their own, and jobs can be deleted."""
    app = wrap(Echo(), Settings(cors_origins="https://a.example"))
    _, headers = await ask(
        app,
        method="OPTIONS",
        origin="https://a.example",
        access_control_request_method="DELETE",
        access_control_request_headers="authorization,anthropic-version,x-stainless-lang",
    )
    allowed = headers["access-control-allow-headers"]
    assert {"anthropic-version", "x-stainless-lang"} < {*re.split(", ?", allowed)}
    assert "DELETE" in headers["access-control-allow-methods"]
    assert headers["vary"] == "Origin, Access-Control-Request-Headers"
    _, headers = await ask(app, origin="https://a.example")
    exposed = headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "x-should-retry", "idempotency-replayed"} == {*exposed}


async def test_another_origin_gets_no_leave() -> None:
    app = wrap(Echo(), Settings(cors_origins="https://a.example"))
    for origin in ("https://a.example.evil", "null", "https://A.example"):
        assert await ask(app, origin=origin) == (200, {"x": "y"})


async def test_every_origin_may_be_named() -> None:
    _, headers = await ask(wrap(Echo(), Settings(cors_origins="*")), origin="https://z")
    assert headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("origin", "host", "foreign"),
    [
        (None, "a.example", False),
        ("https://a.example", "a.example", False),
        ("https://A.example:443", "a.example", False),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", False),
        ("http://[::1]:8000", "[::1]:8000", False),
        ("http://127.0.0.1:3000", "127.0.0.1:8000", True),
        ("https://a.example.evil", "a.example", True),
        ("https://evil/a.example", "a.example", True),
        ("https://evil@a.example", "a.example", True),
        ("https://[", "a.example", True),
        ("null", "a.example", True),
        ("", "", True),
    ],
)
def test_who_is_foreign(origin: str | None, host: str, *, foreign: bool) -> None:
    told = {"origin": origin, "host": host}
    pairs = [(key.encode(), value.encode()) for key, value in told.items() if value is not None]
    assert is_foreign({"headers": pairs}) is foreign


@pytest.mark.parametrize(("origin", "foreign"), [("https://a.example", False), ("http://b", True)])
async def test_a_socket_of_a_named_origin_is_ours(origin: str, *, foreign: bool) -> None:
    echo = Echo()
    app = wrap(echo, Settings(cors_origins="https://a.example"))
    await ask(app, kind="websocket", origin=origin, host="c.example")
    assert is_foreign(echo.scope) is foreign


@pytest.mark.parametrize(
    ("trusted", "client", "hops", "expected"),
    [
        ("", "10.0.0.1", "1.2.3.4", "10.0.0.1"),
        ("10.0.0.2", "10.0.0.1", "1.2.3.4", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.0/8", "10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.0/8", "10.0.0.1", "9.9.9.9, 1.2.3.4, 10.1.1.1", "1.2.3.4"),
        ("10.0.0.1", "10.0.0.1", "forged, unknown", "10.0.0.1"),
        ("*", "10.0.0.1", "1.1.1.1, 2.2.2.2", "1.1.1.1"),
        ("::1", "::1", "2001:db8::1", "2001:db8::1"),
    ],
)
async def test_forwarded_for(trusted: str, client: str, hops: str, expected: str) -> None:
    echo = Echo()
    app = wrap(echo, Settings(forwarded_allow_ips=trusted))
    await ask(app, client=(client, 5), x_forwarded_for=hops, x_forwarded_proto="https")
    assert echo.scope["client"][0] == expected
    assert echo.scope["scheme"] == ("https" if trusted not in ("", "10.0.0.2") else "http")


@pytest.mark.parametrize(("trusted", "scheme"), [(["unix"], "https"), (["127.0.0.1"], "http")])
async def test_a_unix_socket_is_trusted_by_name(trusted: list[str], scheme: str) -> None:
    echo = Echo()
    await ask(Forwarded(echo, trusted), client=None, x_forwarded_proto="https")
    assert echo.scope["scheme"] == scheme


async def test_a_socket_behind_tls_is_wss() -> None:
    echo = Echo()
    await ask(Forwarded(echo, ["*"]), kind="websocket", x_forwarded_proto="https")
    assert echo.scope["scheme"] == "wss"


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(ForwardedError, match=r"'proxy\.local'"):
        parse_networks(["127.0.0.1", "proxy.local"])
