"""Bytes on a socket, for what no proper client sends."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
from types import TracebackType
from typing import Self

from hpack import Encoder

from .servers import PATIENCE_S, Server

SO_ATTACH_FILTER = 26
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Raw:
    """One connection. Leaving the block closes it. `small`: its kernel buffers next to nothing."""

    def __init__(self, server: Server, *, small: bool = False) -> None:
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect((server.host, server.port))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to the piece that completes `mark`."""
        data = bytearray()
        while mark not in data:
            piece = self.socket.recv(65536)
            assert piece, f"closed after {bytes(data[-200:])!r}"
            data += piece
        return bytes(data)

    def read_all(self) -> bytes:
        """Everything until the server closes; a reset is an end as well."""
        data = bytearray()
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return bytes(data)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def vanish(self) -> None:
        """As if the cable were cut: whatever comes is dropped unseen, and nothing is answered."""
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
        program = struct.pack("HP", 1, ctypes.addressof(drop_all))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def post(path: str, body: object, *headers: str) -> bytes:
    """A POST request with a JSON body."""
    data = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + data


def frame(opcode: int, data: bytes) -> bytes:
    """One final WebSocket frame, masked with zeros."""
    size = len(data)
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, size)
    return head + bytes(4) + data


def start(body: dict[str, object]) -> bytes:
    """A start message as a frame."""
    return frame(TEXT, json.dumps({"type": "start", **body}).encode())


def http2_frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(data))[1:] + struct.pack(">BBI", kind, flags, stream) + data


def http2(method: bytes, path: bytes, *, end: bool = True) -> bytes:
    """The preface and one request, by a client that knows that the server speaks HTTP/2."""
    headers = [(b":method", method), (b":path", path), (b":scheme", b"http"), (b":authority", b"x")]
    block = Encoder().encode(headers)
    return PREFACE + http2_frame(4, 0, 0, b"") + http2_frame(1, 5 if end else 4, 1, block)
