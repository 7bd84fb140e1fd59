"""One TCP connection: Hypercorn's, with what it lacks under Trio.

Each override names the defect of Hypercorn 0.18.0 that it cures. HTTP/2 is refused: Hypercorn's has
no flow control under Trio (a reader that stops is decoded for without end), and two single bytes
in its pseudo-headers end the whole process.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import cast

import h11
import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

log = logging.getLogger(__name__)


class RefusedError(OSError):
    """The peer speaks something that is not served; it has been told."""


class Http1(H11Protocol):
    """HTTP/1.1 and WebSocket only."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """`Upgrade: h2c` is ignored, as RFC 9110 allows; the HTTP/2 preface is a bad request."""
        if event.http_version not in (b"1.0", b"1.1"):
            await self._send_error_response(505)
            raise RefusedError


class Connection(TCPServer):
    """Serves one stream of bytes. No failure in it reaches another connection."""

    stream: trio.SocketStream  # type: ignore[assignment]  # upstream names its TLS case only

    async def run(self) -> None:
        """Serve until either side closes.

        Error handling: upstream catches OSError only, so any other error ends the server's nursery
        and with it the process (a WebSocket frame before the handshake is accepted does).
        """
        try:
            async with TaskGroup() as group:
                self._task_group = group
                self.protocol = cast("ProtocolWrapper", self._make_protocol(group))
                await self.idle_task.restart(group, self._idle_timeout)
                await self._read_data()
                # What is still running serves a peer that is gone.
                self._nursery(group).cancel_scope.cancel()
        except* OSError:
            pass
        except* Exception:
            log.exception("a connection failed")
        finally:
            await trio.aclose_forcefully(self.stream)

    def _nursery(self, group: TaskGroup) -> trio.Nursery:
        assert group._nursery is not None
        return group._nursery

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
        )

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
                sent += await self.stream.socket.send(data[sent:])
        finally:
            if 0 < sent < len(data):
                self.stream.socket.close()

    def _write_nowait(self, data: memoryview) -> int:
        if sys.platform == "win32":
            return 0
        try:
            return os.write(self.stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
