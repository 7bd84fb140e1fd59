"""Clients that ask on any transport and leave in any way that it knows."""

from __future__ import annotations

from typing import Any

import trio

from .http2 import Http2Client
from .raw import CLOSE, HANDSHAKE, Raw, frame, post, start

PATH = "/v1/completions"
WAYS = {
    "HTTP/1.1": ["FIN", "RST", "half-close"],
    "HTTP/2": ["FIN", "RST", "half-close", "RST_STREAM"],
    "WebSocket": ["FIN", "RST", "half-close", "close frame"],
}


async def ask(address: Any, transport: str, body: dict[str, Any], *, stop: bool = False) -> Raw:  # noqa: ANN401
    """A peer that has asked. `stop`: it takes next to nothing of the answer."""
    if transport == "HTTP/2":
        client = Http2Client(address, window=500 if stop else 1 << 20)
        client.ask("POST", PATH, body)
        return client
    peer = Raw(address, small=stop)
    if transport == "HTTP/1.1":
        peer.send(post(PATH, body))
        return peer
    peer.send(HANDSHAKE)
    await trio.to_thread.run_sync(peer.read_until, b"\r\n\r\n")
    peer.send(start({**body, "credits": 3 if stop else None}))
    return peer


def leave(peer: Raw, way: str) -> None:
    match way:
        case "FIN":
            peer.socket.close()
        case "RST":
            peer.reset()
        case "half-close":
            peer.half_close()
        case "close frame":
            peer.send(frame(CLOSE, b"\x03\xe8"))
        case _:
            assert isinstance(peer, Http2Client)
            peer.reset_stream(1)
