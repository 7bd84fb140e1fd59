"""One TCP connection: Hypercorn's, with what it lacks under Trio.

Each override names the defect of Hypercorn 0.18.0 that it cures.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from math import inf
from typing import cast

import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from penstock.web.frames import Frames
from penstock.web.http1 import Http1

log = logging.getLogger(__name__)

LINGER_S = 1.0
"""How long a peer may take to read our last words and close."""


class Connection(TCPServer):
    """Serves one stream of bytes. No failure in it reaches another connection."""

    stream: trio.SocketStream  # type: ignore[assignment]  # upstream names its TLS case only
    _closing = False

    async def run(self) -> None:
        """Serve until either side closes.

        Error handling: upstream catches OSError only, so any other error ends the server's nursery
        and with it the process. So does a cancellation that was meant for one connection: its
        `TaskGroup` hands on what its nursery has caught, and is therefore never entered here.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._task_group = TaskGroup()
                self._task_group._nursery = self._nursery
                self._http = self._make_protocol(self._task_group)
                self.protocol = cast("ProtocolWrapper", self._http)
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
                # What is still running serves a peer that is gone.
                self._nursery.cancel_scope.cancel()
        except* OSError:
            pass
        except* Exception:
            log.exception("a connection failed")
        finally:
            await trio.aclose_forcefully(self.stream)

    def _make_protocol(self, group: TaskGroup) -> Http1:
        socket = self.stream.socket
        return Http1(
            self.app,
            self.config,
            self.context,
            group,
            ConnectionState(self.state),
            False,
            parse_socket_addr(socket.family, socket.getpeername()),
            parse_socket_addr(socket.family, socket.getsockname()),
            self.protocol_send,
            receive=self._receive,
        )

    async def _read_data(self) -> None:
        while data := await self._receive():
            if not self._closing:
                await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())

    async def _receive(self) -> bytes:
        """The next bytes; none once the peer has closed, or is as good as gone.

        Upstream pings a WebSocket without looking for the answers.
        """
        pinged_s = self.config.websocket_ping_interval
        patience_s = 2 * pinged_s if pinged_s and isinstance(self._http.stream, Frames) else inf
        with (
            trio.move_on_after(patience_s),
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            return bytes(await self.stream.receive_some(MAX_RECV))
        return b""

    async def protocol_send(self, event: Event) -> None:
        """Upstream shields every write without a deadline: a reader that stops pins it for ever.

        Here a write can be cancelled; once a part of it is out, that closes the connection.
        Other events are shielded: `http.disconnect` makes an application cancel itself inside its
        last send, and upstream then never starts the idle timer of the connection.
        """
        if isinstance(event, RawData):
            await self._write(event.data)
        else:
            with trio.CancelScope(shield=True):
                await super().protocol_send(event)

    async def _write(self, data: bytes) -> None:
        try:
            async with self.send_lock:
                await self._write_all(memoryview(data))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self.protocol.handle(Closed())

    async def _write_all(self, data: memoryview) -> None:
        # Trying first saves a scheduler pass a write, and most writes fit the socket's buffer.
        sent = self._write_nowait(data)
        try:
            while sent < len(data):
                sent += await self._write_some(data[sent:])
        finally:
            # h11 counts as sent what was not; a WebSocket's lost message is told by its close code.
            if sent < len(data) and (sent or not isinstance(self._http.stream, Frames)):
                self.stream.socket.close()

    async def _write_some(self, data: memoryview) -> int:
        return await self.stream.socket.send(data)

    def _write_nowait(self, data: memoryview) -> int:
        if sys.platform == "win32":
            return 0
        try:
            return os.write(self.stream.socket.fileno(), data)
        except BlockingIOError:
            return 0

    async def _close(self) -> None:
        """Say that nothing will follow, and wait a moment for the peer to close.

        Upstream closes at once. Where input is unread that resets the connection, and a peer that
        is still sending may never see the error or the close code that it was sent.
        """
        if not self._closing:
            self._closing = True
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                await self.stream.send_eof()
            self._nursery.start_soon(self._linger)

    async def _linger(self) -> None:
        await trio.sleep(LINGER_S)
        self._nursery.cancel_scope.cancel()
