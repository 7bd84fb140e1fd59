"""A connection's bytes: a socket, or TLS on it."""

from __future__ import annotations

import os
import ssl
import sys
from contextlib import suppress

import trio

from penstock.web.http2_output import GONE


class ByteStream:
    """Writes to the socket at once where that can be done, else waits for it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        self._socket = stream.socket
        self._write_lock = trio.Lock()
        self._ahead = 0
        """How many bytes of what is to be written next are out."""

    async def start_tls(self, context: ssl.SSLContext) -> str:
        """Shake hands, and give what is to be spoken. Raises `BrokenResourceError`."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream = trio.SSLStream(self.stream, context, https_compatible=True, server_side=True)
        await self.stream.do_handshake()
        spoken: str | None = self.stream.selected_alpn_protocol()
        return spoken or "http/1.1"

    async def write_some(self, data: memoryview) -> int:
        if isinstance(self.stream, trio.SocketStream):
            return await self._socket.send(data)
        await self.stream.send_all(data)
        return len(data)

    def write_nowait(self, data: memoryview) -> int:
        if sys.platform == "win32" or not isinstance(self.stream, trio.SocketStream):
            return 0
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0

    def write_ahead(self, data: bytes) -> bool:
        """Whether all of it is out. If not, the same bytes must be what is written next."""
        with suppress(*GONE):
            if not self._write_lock.locked():
                self._ahead = self.write_nowait(memoryview(data))
        if self._ahead < len(data):
            return False
        self._ahead = 0
        return True

    async def _take_turn(self) -> None:
        try:
            # Saves a scheduler pass a write.
            self._write_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._write_lock.acquire()

    def cut(self) -> None:
        self._socket.close()
