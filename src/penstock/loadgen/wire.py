"""Connections to the server, and how little the kernel may hide on those that stop reading."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import trio

SMALL_BUFFER = 1
"""The kernel makes its least of it, 2304 bytes on Linux. With 4096, its acknowledgements let the
server's send buffer grow to 185 KB within a second; with this it stays at 45 KB."""
SMALL_SEGMENT = 536
"""On loopback a segment has 64 KiB, and Linux sizes its send buffer by segments: 2.5 MB. With the
smallest one that IP promises, the server's kernel hides what it would hide on a network."""

Connect: TypeAlias = Callable[[bool], Awaitable[trio.abc.Stream]]
"""Opens a connection; True asks for one on which the kernel hides little. Raises OSError."""


class TargetError(ValueError):
    """A URL that cannot be asked."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. `base` is what comes before `/chat/completions`."""

    host: str
    port: int
    tls: bool
    base: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(url: str) -> Target:
    """`http://host:port`, with or without `/v1` behind it. Raises `TargetError`."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise TargetError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetError(f"{url!r} is not an http:// or https:// URL")
    path = parts.path.rstrip("/")
    base = path if path.endswith("/v1") else f"{path}/v1"
    tls = parts.scheme == "https"
    return Target(parts.hostname, port or (443 if tls else 80), tls, base)


async def connector(target: Target) -> Connect:
    """Connections to `target`, whose name is looked up once. Raises OSError."""
    found = await trio.socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    family, kind, number, _, address = found[0]
    tls = ssl.create_default_context() if target.tls else None

    async def connect(small: bool) -> trio.abc.Stream:
        made = trio.socket.socket(family, kind, number)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if small:
                shrink(made)
            await made.connect(address)
        except BaseException:
            made.close()
            raise
        stream = trio.SocketStream(made)
        if tls is None:
            return stream
        return trio.SSLStream(stream, tls, server_hostname=target.host, https_compatible=True)

    return connect


def shrink(unconnected: trio.socket.SocketType | socket.socket) -> None:
    """Let the kernel hide little on this socket. It must not be connected yet."""
    unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    if hasattr(socket, "TCP_MAXSEG"):
        unconnected.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)


def hidden_bytes() -> int:
    """What this kernel takes from a server whose reader, on such a connection, reads nothing.

    Takes half a second: the send buffer grows for a while.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as reader:
        shrink(reader)
        reader.connect(listener.getsockname())
        writer, _ = listener.accept()
        with writer:
            writer.setblocking(False)
            return sum(_write_some(writer) for _ in range(500))


def _write_some(writer: socket.socket) -> int:
    """Bytes of one event that a socket takes now, a millisecond after the last."""
    time.sleep(0.001)
    try:
        return writer.send(bytes(256))
    except BlockingIOError:
        return 0
