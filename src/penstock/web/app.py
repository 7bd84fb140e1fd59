"""The ASGI application: generation goes down the pipeline, all else to Quart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from penstock.errors import NOT_FOUND, PenstockError
from penstock.service import Service
from penstock.web import jobs, native, openai, ws
from penstock.web.exchange import Exchange, Handler, Receive, Send, handle
from penstock.web.ops import make_ops
from penstock.web.requests import Requests

ROUTES: Mapping[str, tuple[str, Handler]] = {
    "/v1/chat/completions": ("POST", openai.chat_completions),
    "/v1/completions": ("POST", openai.completions),
    "/chat/stream": ("GET", native.chat_stream),
    "/v1/stream": ("GET", jobs.stream),
}
SOCKET_PATH = "/v1/ws"


class App:
    """One service as an ASGI 3 application. Runs on Trio.

    One that does not answer tells how it is, and generates for others only.
    """

    def __init__(self, service: Service, *, answers: bool = True) -> None:
        self.service = service
        self._routes = ROUTES if answers else {}
        self._socket_path = SOCKET_PATH if answers else None
        self._requests = Requests()
        self._ops = make_ops(service, self._requests)
        if answers:
            jobs.add_jobs(self._ops, service)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        elif route := self._routes.get(scope["path"]):
            method, handler = route
            exchange = Exchange(
                scope, receive, send, body_deadline_s=self.service.limits.body_deadline_s
            )
            with self._requests.named(exchange.number, exchange.live):
                await handle(self.service, exchange, method, handler)
        else:
            await self._ops(scope, receive, send)  # type: ignore[arg-type]  # Quart's own typed dicts

    async def _connect(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] == self._socket_path:
            await ws.serve(self.service, scope, receive, send)
        else:
            await receive()
            await ws.deny(send, PenstockError(NOT_FOUND, f"WebSockets are at {SOCKET_PATH}"))

    async def _live(self, receive: Receive, send: Send) -> None:
        """The service runs from startup to shutdown."""
        async with trio.open_nursery() as nursery:
            await receive()
            nursery.start_soon(self.service.run)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            nursery.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})
