"""Cross-origin requests from browsers: off unless origins are named.

For HTTP the browser keeps the answer from the page. A WebSocket it lets any page open, and says
whose it is: that one is refused here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from penstock.web.exchange import Receive, Send

ALLOWED_HEADERS = (
    b"authorization, x-api-key, content-type, last-event-id, idempotency-key, traceparent, "
    b"tracestate, x-penstock-timings, x-request-id"
)
"""Beside those that are asked for: OpenAI's and Anthropic's clients send ten of their own."""
EXPOSED_HEADERS = b"x-request-id, retry-after, x-should-retry, idempotency-replayed"
METHODS = b"GET, POST, DELETE, OPTIONS"
MAX_AGE_S = b"600"
ASKED_HEADERS = b"access-control-request-headers"
DEFAULT_PORTS = {b"http": b":80", b"https": b":443", b"ws": b":80", b"wss": b":443"}

Asgi: TypeAlias = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Cors:
    """Answers preflights and marks responses for the named origins; `*` is every origin."""

    def __init__(self, app: Asgi, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode("ascii", "replace") for origin in origins)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin") if scope["type"] != "lifespan" else None
        if origin is None or not self._allows(origin):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app({**scope, "headers": _without_origin(scope)}, receive, send)
        elif scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method"):
            await self._answer(origin, _header(scope, ASKED_HEADERS) or b"", send)
        else:
            await self._app(scope, receive, partial(self._mark, origin, send))

    def _allows(self, origin: bytes) -> bool:
        return b"*" in self._origins or origin in self._origins

    def _headers(self, origin: bytes, vary: bytes = b"Origin") -> list[tuple[bytes, bytes]]:
        allowed = b"*" if b"*" in self._origins else origin
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
            # A cache must not give one origin what another was allowed.
            (b"vary", vary),
        ]

    async def _answer(self, origin: bytes, asked: bytes, send: Send) -> None:
        allowed = b", ".join(filter(None, (ALLOWED_HEADERS, asked)))
        headers = [
            *self._headers(origin, b"Origin, Access-Control-Request-Headers"),
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", allowed),
            (b"access-control-max-age", MAX_AGE_S),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _mark(self, origin: bytes, send: Send, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *self._headers(origin)]
            message = {**message, "headers": headers}
        await send(message)


def is_foreign(scope: dict[str, Any]) -> bool:
    """Whether a page of another host asks. What is no browser names no origin, or our host."""
    origin = _header(scope, b"origin")
    if origin is None:
        return False
    scheme, _, page = origin.lower().partition(b"://")
    port = DEFAULT_PORTS.get(scheme, b"")
    host = (_header(scope, b"host") or b"").lower().removesuffix(port)
    return not host or page.removesuffix(port) != host


def _without_origin(scope: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in scope["headers"] if key.lower() != b"origin"]


def _header(scope: dict[str, Any], name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key.lower() == name), None)
