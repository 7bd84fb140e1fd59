"""A connection's bytes: a socket, or TLS on it."""

from __future__ import annotations

import os
import ssl
import sys

import trio


class ByteStream:
    """Writes to the socket at once where that can be done, else waits for it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        self._socket = stream.socket

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

    def cut(self) -> None:
        self._socket.close()
