"""The ASGI application: generation goes down the pipeline, all else to Quart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from penstock import origin
from penstock.errors import FORBIDDEN, NOT_FOUND, PenstockError
from penstock.protocols.anthropic import tell_error as tell_anthropic_error
from penstock.protocols.openai import tell_error
from penstock.protocols.tgi import tell_error as tell_tgi_error
from penstock.service import Service
from penstock.web import (
    anthropic,
    flow,
    jobs,
    native,
    openai,
    playground,
    responses,
    stored_responses,
    tabby,
    tgi,
    tokens,
    ws,
)
from penstock.web.cors import is_foreign
from penstock.web.door import Door, caller_of
from penstock.web.exchange import Exchange, Handler, Receive, Send, TellError, handle
from penstock.web.handshake import deny
from penstock.web.identity import identify
from penstock.web.ops import make_ops
from penstock.web.requests import Requests
from penstock.web.usage import add_usage

ROUTES: Mapping[str, tuple[str, Handler]] = {
    "/v1/chat/completions": ("POST", openai.chat_completions),
    "/v1/completions": ("POST", openai.completions),
    "/chat/stream": ("GET", native.chat_stream),
    "/v1/stream": ("GET", jobs.stream),
    "/": ("POST", tgi.root),
    "/generate": ("POST", tgi.generate),
    "/generate_stream": ("POST", tgi.generate_stream),
    "/v1/events": ("POST", tabby.take_events),
    "/v1/responses": ("POST", responses.responses),
    "/v1/messages": ("POST", anthropic.messages),
    "/v1/messages/count_tokens": ("POST", anthropic.count_tokens),
    "/tokenize": ("POST", tokens.tokenize),
    "/detokenize": ("POST", tokens.detokenize),
}
ERRORS: Mapping[str, TellError] = {
    "/": tell_tgi_error,
    "/generate": tell_tgi_error,
    "/generate_stream": tell_tgi_error,
    "/v1/messages": tell_anthropic_error,
    "/v1/messages/count_tokens": tell_anthropic_error,
}
"""Where errors are told otherwise than OpenAI does."""
SOCKET_PATH = "/v1/ws"


def _find(scope: dict[str, Any]) -> tuple[str, Handler] | None:
    """The root is TGI's for a POST only."""
    if scope["path"] == "/" and scope["method"] != "POST":
        return None
    if stored_responses.wants_stream(scope):
        return "GET", stored_responses.read_stored
    return ROUTES.get(scope["path"])


class App:
    """One service as an ASGI 3 application. Runs on Trio.

    One that does not answer tells how it is, and generates for others only.
    """

    def __init__(
        self,
        service: Service,
        door: Door | None = None,
        *,
        shows_metrics: bool = True,
        answers: bool = True,
    ) -> None:
        self.service = service
        self._door = door or Door()
        self._answers = answers
        service.anonymous = not self._door.is_locked
        self._requests = Requests()
        self._ops = make_ops(service, self._requests, shows_metrics=shows_metrics)
        if answers:
            jobs.add_jobs(self._ops, service)
            add_usage(self._ops, service)
            flow.add_flow(self._ops, service)
            stored_responses.add_stored_responses(self._ops, service)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        with origin.entered(identify(scope, self._requests)):
            try:
                entered = self._door.enter(scope)
            except PenstockError as error:
                self.service.refused(error)
                await self._turn_away(scope, receive, send, error)
            else:
                origin.name_account(caller_of(entered).account)
                await self._route(entered, receive, send)

    async def _route(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        elif not self._answers:
            await self._ops(scope, receive, send)  # type: ignore[arg-type]  # Quart's own typed dicts
        elif route := _find(scope):
            method, handler = route
            exchange = self._exchange(scope, receive, send)
            with self._requests.named(exchange):
                await handle(self.service, exchange, method, handler)
        elif asset := playground.find(scope):
            await playground.serve(asset, scope, send)
        else:
            await self._ops(scope, receive, send)  # type: ignore[arg-type]  # Quart's own typed dicts

    async def _turn_away(
        self, scope: dict[str, Any], receive: Receive, send: Send, error: PenstockError
    ) -> None:
        if scope["type"] == "websocket":
            await receive()
            await deny(send, error)
        else:
            await self._exchange(scope, receive, send).respond_error(error)

    def _exchange(self, scope: dict[str, Any], receive: Receive, send: Send) -> Exchange:
        told = ERRORS.get(scope["path"], tell_error)
        deadline_s = self.service.limits.body_deadline_s
        return Exchange(scope, receive, send, told, body_deadline_s=deadline_s)

    async def _connect(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if is_foreign(scope):
            error = PenstockError(FORBIDDEN, "no page of another origin may ask; see cors_origins")
        elif scope["path"] != SOCKET_PATH or not self._answers:
            error = PenstockError(NOT_FOUND, f"WebSockets are at {SOCKET_PATH}")
        else:
            await ws.serve(self.service, scope, receive, send)
            return
        await receive()
        self.service.refused(error)
        await deny(send, error)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The service runs from startup to shutdown."""
        async with trio.open_nursery() as nursery:
            await receive()
            nursery.start_soon(self.service.run)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            nursery.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})
