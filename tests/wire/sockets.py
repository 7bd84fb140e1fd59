"""A WebSocket client with an inbox."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, wrap_client_stream

from .asked import LONG_BODY
from .servers import PATIENCE_S, Server


class Peer:
    """One end of a socket. What the server says is kept in the order in which it came."""

    def __init__(self, stream: trio.SocketStream, socket: Any) -> None:  # noqa: ANN401  # untyped
        self.stream = stream
        self.socket = socket
        self.ended = trio.Event()
        self._send, self._inbox = trio.open_memory_channel[dict[str, Any]](inf)

    async def listen(self) -> None:
        with self._send:
            try:
                while True:
                    self._send.send_nowait(json.loads(await self.socket.get_message()))
            except ConnectionClosed:
                self.ended.set()

    async def tell(self, kind: str, **fields: object) -> None:
        await self.socket.send_message(json.dumps({"type": kind, **fields}))

    async def start(self, **fields: object) -> dict[str, Any]:
        """Start a generation, a long one by default, and wait for it to be accepted."""
        await self.tell("start", **{**LONG_BODY, **fields})
        started = await self.hear()
        assert started["type"] == "started", started
        return started

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE_S):
            return await self._inbox.receive()

    async def hear_tokens(self, count: int) -> list[int]:
        """The numbers of the next messages, all of which are tokens."""
        messages = [await self.hear() for _ in range(count)]
        assert {message["type"] for message in messages} <= {"token"}, messages
        return [message["seq"] for message in messages]

    async def hear_terminal(self) -> dict[str, Any]:
        """The next message that is not a token."""
        while (message := await self.hear())["type"] == "token":
            pass
        return message

    async def heard_all(self) -> bool:
        """True if nothing that the server has sent so far is left to be heard."""
        await self.socket.ping()
        await wait_all_tasks_blocked()
        return not self._inbox.statistics().current_buffer_used

    async def close_code(self) -> int:
        """Wait for the server to close; what it said before is skipped."""
        with trio.fail_after(PATIENCE_S):
            async for _ in self._inbox:
                pass
        code: int = self.socket.closed.code
        return code


@asynccontextmanager
async def connect(
    server: Server, subprotocols: Sequence[str] | None = None, *, path: str = "/v1/ws"
) -> AsyncIterator[Peer]:
    stream = await trio.open_tcp_stream(server.host, server.port)
    async with stream, trio.open_nursery() as nursery:
        socket = await wrap_client_stream(
            nursery, stream, server.host, path, subprotocols=subprotocols
        )
        peer = Peer(stream, socket)
        nursery.start_soon(peer.listen)
        yield peer
        with trio.move_on_after(1):
            await socket.aclose()
        nursery.cancel_scope.cancel()


def abort(stream: trio.SocketStream) -> None:
    """Reset the connection."""
    stream.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
