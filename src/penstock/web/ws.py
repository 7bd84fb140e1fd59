"""GET /v1/ws: generations over a WebSocket, one at a time, at the pace of the client's credits.

A plain one ends with its socket. A resumable one is a job: the socket reads its log, and another
may go on reading it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, TypeAlias

import trio

from penstock import origin
from penstock.errors import CANCELLED, INVALID_KEY, STALLED, UNAVAILABLE, PenstockError, invalid
from penstock.events import Failed, Finished
from penstock.jobs.store import Log
from penstock.live import Live
from penstock.protocols import websocket as protocol
from penstock.requests import Caller, GenerateRequest
from penstock.service import Service
from penstock.web.credits import Credits
from penstock.web.door import look_again
from penstock.web.exchange import Receive, Send
from penstock.web.handshake import deny, request_id
from penstock.web.socket_sink import SocketSink, send_text

FIRST_MESSAGE_S = 30.0
CLOSE_S = 1.0
"""How long a close frame may take; the connection of a peer that does not read is cut."""


Find: TypeAlias = Callable[[], Awaitable[tuple[Log, int]]]
"""Gives a job, and the number behind which to read."""


class Socket:
    """One accepted socket."""

    def __init__(
        self, service: Service, receive: Receive, send: Send, look: Callable[[], Caller]
    ) -> None:
        self._service = service
        self._look = look
        self._receive = receive
        self._send = send
        self._reading = trio.CancelScope()
        self._close_code: int | None = None
        self._close_reason = ""
        self._cancel: Callable[[], None] | None = None
        """Ends what is running; None when nothing is."""
        self._credits = Credits(None)
        self._log: Log | None = None
        """What is being read, or was last."""

    def close(self, code: int = protocol.GOING_AWAY, reason: str = "") -> None:
        """Stop reading and close with `code`. The first to close says why."""
        if self._close_code is None:
            self._close_code, self._close_reason = code, reason
        self._reading.cancel()

    async def run(self) -> None:
        """Serve until either side closes. A generation still running then is cancelled."""
        async with trio.open_nursery() as nursery:
            with self._reading:
                await self._read(nursery.start_soon)
            nursery.cancel_scope.cancel()
        if self._close_code is not None:
            with trio.move_on_after(CLOSE_S):
                told = {"code": self._close_code, "reason": self._close_reason}
                await self._send({"type": "websocket.close", **told})

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
            await self._act(protocol.parse(text), spawn)
        except protocol.ProtocolError as error:
            self.close(protocol.MALFORMED, str(error))
        except PenstockError as error:
            await self._refuse(error)
            if error.kind is INVALID_KEY:
                self.close(protocol.UNAUTHORIZED)

    async def _act(self, message: protocol.ClientMessage, spawn: Callable[..., None]) -> None:
        match message:
            case protocol.Start() | protocol.Resume() if self._cancel is not None:
                self._cancel()
                self.close(protocol.BUSY)
            case protocol.Start(resumable=True):
                request, model = self._asked(message)
                find = partial(self._submit, request, model, message.window)
                self._read_job(find, message.credits, spawn)
            case protocol.Start():
                request, model = self._asked(message)
                live = Live(f"job_{secrets.token_hex(12)}")
                self._credits = Credits(message.credits)
                self._cancel = partial(live.stop, _cancelled())
                spawn(self._generate, request, model, live, self._credits)
            case protocol.Resume():
                message.check()
                log, after = await self._find(message)
                self._read_job(partial(_found, log, after), message.credits, spawn)
            case protocol.Pull(n):
                self._credits.add(n)
            case protocol.Ack(seq) if self._log is not None:
                # What was not sent cannot have arrived.
                await self._log.acknowledge(min(seq, (await self._log.state()).last_id))
            case protocol.Cancel() if self._cancel is not None:
                self._cancel()

    def _asked(self, message: protocol.Start) -> tuple[GenerateRequest, str]:
        request = replace(message.request(), caller=self._look())
        return request, self._service.resolve(request.model, request.caller).name

    def _read_job(self, find: Find, count: int | None, spawn: Callable[..., None]) -> None:
        wanted = trio.Event()
        self._cancel, self._credits, self._log = wanted.set, Credits(count), None
        spawn(self._follow, find, self._credits, wanted)

    async def _submit(
        self, request: GenerateRequest, model: str, window: int | None
    ) -> tuple[Log, int]:
        jobs = self._service.jobs
        return (await jobs.submit(jobs.attended(request, model, window=window))).log, 0

    async def _find(self, message: protocol.Resume) -> tuple[Log, int]:
        """The job, and where to go on. Nobody can be ahead of it, and its end is always told."""
        log = await self._service.jobs.find(self._look().scope, message.job_id)
        state = await log.state()
        return log, min(message.after, state.last_id - (state.terminal is not None))

    async def _follow(self, find: Find, allowed: Credits, wanted: trio.Event) -> None:
        """Read a job for the client; `wanted` is set when it wants to cancel it."""
        try:
            log, after = await find()
        except PenstockError as error:
            await self._refuse(error)
            self._done()
            return
        self._log = log
        encoder = protocol.MessageEncoder(log.job.job_id, log.job.order.model, after)
        sink = SocketSink(self._send, encoder.started(), allowed, self._done)
        reading = Live()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_job, wanted, log, sink, reading)
            await self._service.read(log, after, encoder, sink, reading)
            nursery.cancel_scope.cancel()
        self._close_after(reading)

    async def _cancel_job(
        self, wanted: trio.Event, log: Log, sink: SocketSink, reading: Live
    ) -> None:
        """A job that has ended cannot be cancelled, but its reader need not hear the rest of it.

        Nothing is dropped before it is known which: an answer with a gap is never told as complete.
        """
        await wanted.wait()
        with trio.CancelScope(shield=True):  # the socket may be closing over this very message
            state = await self._service.jobs.cancel(log)
        if isinstance(state.terminal, Finished):
            reading.stop(_cancelled())
        sink.release()

    async def _generate(
        self, request: GenerateRequest, model: str, live: Live, allowed: Credits
    ) -> None:
        origin.name_generation(live.name)
        encoder = protocol.MessageEncoder(live.name, model)
        sink = SocketSink(self._send, encoder.started(), allowed, self._done)
        try:
            await self._service.generate(request, encoder, sink, live)
        except PenstockError as error:
            await self._refuse(error)
            self._done()
        self._close_after(live)

    async def _refuse(self, error: PenstockError) -> None:
        self._service.refused(error)
        with trio.move_on_after(self._service.pace.stall_deadline_s) as patience:
            await send_text(self._send, protocol.refusal(error))
        if patience.cancelled_caught:
            self.close(protocol.READER_STALLED)

    def _done(self) -> None:
        self._cancel = None

    def _close_after(self, live: Live) -> None:
        if isinstance(live.terminal, Failed):
            if live.terminal.error.kind is STALLED:
                self.close(protocol.READER_STALLED)
            elif live.terminal.error.kind is UNAVAILABLE:
                self.close(protocol.GOING_AWAY)


def _cancelled() -> PenstockError:
    return PenstockError(CANCELLED, "cancelled by the client")


async def _found(log: Log, after: int) -> tuple[Log, int]:
    return log, after


async def serve(service: Service, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer the handshake, then serve the socket."""
    await receive()
    offered = scope.get("subprotocols") or []
    if offered and protocol.SUBPROTOCOL not in offered:
        error = invalid("subprotocols", f"offer the subprotocol {protocol.SUBPROTOCOL}, or none")
        service.refused(error)
        await deny(send, error)
        return
    await send(
        {
            "type": "websocket.accept",
            "subprotocol": protocol.SUBPROTOCOL if offered else None,
            "headers": [request_id()],
        }
    )
    socket = Socket(service, receive, send, partial(look_again, scope))
    service.closers.add(socket.close)
    try:
        await socket.run()
    finally:
        service.closers.discard(socket.close)
