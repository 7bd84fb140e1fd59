"""One TCP connection: what its bytes are, how long it may be silent, and how it ends.

In place of Hypercorn's `TCPServer`; what each part does differently names the defect of 0.18.0.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from math import inf

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from penstock.web.byte_stream import ByteStream
from penstock.web.edge import Edge
from penstock.web.http1 import Http1
from penstock.web.http2 import Http2
from penstock.web.http2_output import GONE
from penstock.web.sockets import tune

log = logging.getLogger(__name__)

LINGER_S = 1.0
"""For a peer to read our last words and close."""
GRACE_S = 1.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
RECEIVE_BYTES = 1 << 14
"""At most this much of one peer is parsed before others have their turn."""


class Connection(ByteStream):
    """Serves one stream of bytes. No failure in it reaches another connection."""

    def __init__(self, edge: Edge, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._edge = edge
        self._closing = False
        self._reading = trio.CancelScope()
        self._idle_until = trio.current_time() + edge.settings.head_deadline_s

    async def run(self) -> None:
        """Serve until either side closes.

        Error handling: upstream catches OSError only, so any other error ends the server's nursery
        and with it the process. So does a cancellation that was meant for one connection: its
        `TaskGroup` hands on what its nursery has caught, and is therefore never entered here.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                await self._serve()
                # What is still running serves a peer that is gone.
                self._nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError):
            pass
        except* Exception:
            log.exception("a connection failed")
        finally:
            await trio.aclose_forcefully(self.stream)

    async def _serve(self) -> None:
        tune(self._socket, self._edge.settings)
        spoken = None
        if self._edge.tls:
            with trio.CancelScope(deadline=self._idle_until):
                spoken = await self.start_tls(self._edge.tls)
        data = await self._receive()
        while spoken is None and len(data) < len(PREFACE) and PREFACE.startswith(data) and data:
            more = await self._receive()
            data, spoken = data + more, None if more else "http/1.1"
        if spoken == "h2" or data.startswith(PREFACE):
            self._protocol: Http1 | Http2 = self._speak_http2()
        else:
            self._protocol = self._speak_http1()
        await self._read(data)
        await self._protocol.handle(Closed())

    def _speak_http1(self) -> Http1:
        group = TaskGroup()
        group._nursery = self._nursery
        return Http1(
            self._edge.app,
            self._edge.config,
            self._edge.context,
            group,
            ConnectionState({}),
            self._edge.tls is not None,
            parse_socket_addr(self._socket.family, self._socket.getpeername()),
            parse_socket_addr(self._socket.family, self._socket.getsockname()),
            self.protocol_send,
            receive=self._receive,
            write_nowait=self.write_ahead,
        )

    def _speak_http2(self) -> Http2:
        settings = self._edge.settings
        self.set_idle(idle=True)
        http2 = Http2(
            self._edge.app,
            self,
            {
                "scheme": "https" if self._edge.tls else "http",
                "client": parse_socket_addr(self._socket.family, self._socket.getpeername()),
                "server": parse_socket_addr(self._socket.family, self._socket.getsockname()),
                "state": {},
            },
            spawn=self._nursery.start_soon,
            max_streams=settings.h2_max_streams,
            stall_deadline_s=settings.stall_deadline_s,
            date=partial(self._edge.config.response_headers, "h2"),
        )
        http2.start()
        self._nursery.start_soon(self._watch, http2)
        return http2

    async def _watch(self, http2: Http2) -> None:
        while not self._edge.draining.is_set():
            with trio.move_on_after(self._edge.settings.ping_interval_s):
                await self._edge.draining.wait()
            http2.ping()
        await http2.leave()

    async def _read(self, data: bytes) -> None:
        while True:
            if data and not self._closing:
                await self._protocol.handle(RawData(data))
                if self._protocol.has_begun:
                    self._hurry()
            elif not data and (self._closing or not self._reading.cancelled_caught):
                return
            elif not data:
                self._idle_until = inf
                await self._protocol.expire()
                await self.close()
            data = await self._receive()

    def set_idle(self, *, idle: bool) -> None:
        """Whether a request is being answered.

        Upstream starts a task for this, from within a task that `http.disconnect` has cancelled by
        then, so that some connections are never closed.
        """
        patience_s = self._edge.settings.keep_alive_s if idle else inf
        self._idle_until = self._reading.deadline = trio.current_time() + patience_s

    def _hurry(self) -> None:
        """A part of a request is there."""
        limit = trio.current_time() + self._edge.settings.head_deadline_s
        self._idle_until = min(self._idle_until, limit)

    async def _receive(self) -> bytes:
        """The next bytes; none once the peer has closed, or is as good as gone.

        Upstream pings a WebSocket without looking for the answers.
        """
        protocol: Http1 | Http2 | None = getattr(self, "_protocol", None)
        pinged = protocol is not None and protocol.is_pinged
        patience_s = 2 * self._edge.settings.ping_interval_s if pinged else inf
        deadline = min(self._idle_until, trio.current_time() + patience_s)
        with (
            trio.CancelScope(deadline=deadline) as self._reading,
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            return bytes(await self.stream.receive_some(RECEIVE_BYTES))
        return b""

    async def protocol_send(self, event: Event) -> None:
        """What HTTP/1.1 has to say. Upstream shields every write, without a deadline.

        Here a write can be cancelled; once a part of it is out, that closes the connection.
        """
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Updated):
            self.set_idle(idle=event.idle)
        elif isinstance(event, Closed):
            # `http.disconnect` makes an application cancel itself, inside its last send.
            with trio.CancelScope(shield=True):
                await self.close()
                await self._protocol.handle(event)

    async def _write(self, data: bytes) -> None:
        try:
            await self._take_turn()
            try:
                await self._write_all(memoryview(data))
            finally:
                self._write_lock.release()
        except GONE:
            # Upstream lets the application go on as if this were written, and decode for nobody.
            self.fail()
            await trio.lowlevel.checkpoint()

    async def _write_all(self, data: memoryview) -> None:
        # Trying first saves a scheduler pass a write, and most writes fit the socket's buffer.
        sent, self._ahead = self._ahead, 0
        sent += self.write_nowait(data[sent:])
        if sent == len(data):
            return
        # A stream that stalls hits its own deadline first; an error's reader has no other.
        patience = trio.move_on_after(self._edge.settings.stall_deadline_s + GRACE_S)
        try:
            with patience:
                while sent < len(data):
                    sent += await self.write_some(data[sent:])
        finally:
            # h11 counts as sent what was not; a WebSocket's lost message is told by its close code.
            # What of a TLS record is out cannot be known.
            spoilt = sent or not self._protocol.is_pinged or self._edge.tls
            if sent < len(data) and (spoilt or patience.cancelled_caught):
                self.cut()

    def fail(self) -> None:
        self._nursery.cancel_scope.cancel()

    async def close(self) -> None:
        """Say that nothing will follow, and wait a moment for the peer to close.

        Upstream closes at once. Where input is unread that resets the connection, and a peer that
        is still sending may never see the error or the close code that it was sent.
        """
        if not self._closing:
            self._closing = True
            with suppress(*GONE):
                self._socket.shutdown(trio.socket.SHUT_WR)
            self._nursery.start_soon(self._linger)

    async def _linger(self) -> None:
        await trio.sleep(LINGER_S)
        self._nursery.cancel_scope.cancel()
