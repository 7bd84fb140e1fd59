"""GET /v1/ws: generations over a WebSocket, one at a time, at the pace of the client's credits."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from math import inf
from typing import Any

import trio

from penstock.errors import CANCELLED, JOB_NOT_FOUND, STALLED, UNAVAILABLE, PenstockError, invalid
from penstock.events import Delta, Event, Failed
from penstock.live import Live
from penstock.protocols import websocket as protocol
from penstock.protocols.openai import dump_error
from penstock.requests import GenerateRequest
from penstock.service import Service
from penstock.web.credits import Credits
from penstock.web.exchange import JSON, Receive, Send

FIRST_MESSAGE_S = 30.0
CLOSE_S = 1.0
"""How long a close frame may take; the connection of a peer that does not read is cut."""


class SocketSink:
    """A pipeline's messages on the socket. Tokens wait for credits, all else goes at once."""

    def __init__(
        self, send: Send, opening: bytes, allowed: Credits, done: Callable[[], None]
    ) -> None:
        self._send = send
        self._opening = opening
        self._credits = allowed
        self._done = done

    async def open(self) -> None:
        await send_text(self._send, self._opening)

    async def permit(self, event: Event | None) -> bool:
        return not isinstance(event, Delta) or await self._credits.take()

    async def write(self, data: bytes, event: Event | None) -> None:
        if not isinstance(event, Delta):
            # Before the terminal is out, so that a client may start again as soon as it reads it.
            self._done()
        await send_text(self._send, data)

    def release(self) -> None:
        self._credits.release()


class Socket:
    """One accepted socket."""

    def __init__(self, service: Service, receive: Receive, send: Send) -> None:
        self._service = service
        self._receive = receive
        self._send = send
        self._reading = trio.CancelScope()
        self._close_code: int | None = None
        self._live: Live | None = None
        self._credits = Credits(None)

    def close(self, code: int = protocol.GOING_AWAY) -> None:
        """Stop reading and close with `code`."""
        self._close_code = self._close_code or code
        self._reading.cancel()

    async def run(self) -> None:
        """Serve until either side closes. A generation still running then is cancelled."""
        async with trio.open_nursery() as nursery:
            with self._reading:
                await self._read(nursery.start_soon)
            nursery.cancel_scope.cancel()
        if self._close_code is not None:
            with trio.move_on_after(CLOSE_S):
                await self._send({"type": "websocket.close", "code": self._close_code})

    async def _read(self, spawn: Callable[..., None]) -> None:
        patience_s = FIRST_MESSAGE_S
        while self._close_code is None:
            with trio.move_on_after(patience_s) as patience:
                message = await self._receive()
            if patience.cancelled_caught:
                self.close(protocol.SILENT)
            elif message["type"] == "websocket.disconnect":
                return
            elif message.get("text") is None:
                self.close(protocol.BINARY)
            else:
                await self._handle(message["text"], spawn)
            patience_s = inf

    async def _handle(self, text: str, spawn: Callable[..., None]) -> None:
        """Act on one message. Nothing is spawned for a peer that floods us and does not read."""
        try:
            self._act(protocol.parse(text), spawn)
        except protocol.ProtocolError:
            self.close(protocol.MALFORMED)
        except PenstockError as error:
            await self._refuse(error)

    def _act(self, message: protocol.ClientMessage, spawn: Callable[..., None]) -> None:
        match message:
            case protocol.Start() | protocol.Resume() if self._live is not None:
                self.close(protocol.BUSY)
            case protocol.Start():
                request = message.request()
                model = self._service.resolve(request.model)
                self._live, self._credits = Live(), Credits(message.credits)
                spawn(self._generate, request, model, self._live, self._credits)
            case protocol.Resume():
                raise PenstockError(JOB_NOT_FOUND, "this server keeps no generations to resume")
            case protocol.Pull(n):
                self._credits.add(n)
            case protocol.Cancel() if self._live is not None:
                self._live.stop(PenstockError(CANCELLED, "cancelled by the client"))

    async def _generate(
        self, request: GenerateRequest, model: str, live: Live, allowed: Credits
    ) -> None:
        encoder = protocol.MessageEncoder(f"job_{secrets.token_hex(12)}", model)
        sink = SocketSink(self._send, encoder.started(), allowed, self._done)
        try:
            await self._service.generate(request, encoder, sink, live)
        except PenstockError as error:
            await self._refuse(error)
            self._done()
        self._close_after(live)

    async def _refuse(self, error: PenstockError) -> None:
        self._service.metrics.refused.labels(error.kind.code).inc()
        with trio.move_on_after(self._service.pace.stall_deadline_s) as patience:
            await send_text(self._send, protocol.refusal(error))
        if patience.cancelled_caught:
            self.close(protocol.READER_STALLED)

    def _done(self) -> None:
        self._live = None

    def _close_after(self, live: Live) -> None:
        if isinstance(live.terminal, Failed):
            if live.terminal.error.kind is STALLED:
                self.close(protocol.READER_STALLED)
            elif live.terminal.error.kind is UNAVAILABLE:
                self.close(protocol.GOING_AWAY)


async def serve(service: Service, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer the handshake, then serve the socket."""
    await receive()
    offered = scope.get("subprotocols") or []
    if offered and protocol.SUBPROTOCOL not in offered:
        error = invalid("subprotocols", f"offer the subprotocol {protocol.SUBPROTOCOL}, or none")
        await deny(send, error)
        return
    await send(
        {"type": "websocket.accept", "subprotocol": protocol.SUBPROTOCOL if offered else None}
    )
    socket = Socket(service, receive, send)
    service.closers.add(socket.close)
    try:
        await socket.run()
    finally:
        service.closers.discard(socket.close)


async def deny(send: Send, error: PenstockError) -> None:
    """Refuse a handshake with a status and a JSON body."""
    body = dump_error(error).encode("ascii")
    headers = [*JSON, (b"content-length", str(len(body)).encode("ascii"))]
    status = error.kind.status
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


async def send_text(send: Send, data: bytes) -> None:
    await send({"type": "websocket.send", "text": data.decode(), "bytes": None})
