"""A proxy that resets connections between any two bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from socket import SO_LINGER, SOL_SOCKET

import trio

from .servers import Server

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True, slots=True)
class Cut:
    """How many bytes get through, to the server and to the client, before the reset."""

    up: float = inf
    down: float = inf


class Cutter:
    """Connections to `server`, each cut as the next of `cuts` says; the rest are left alone."""

    def __init__(self, server: Server, cuts: Iterator[Cut]) -> None:
        self.port = 0
        self.made = 0
        """Connections that were reset."""
        self._server = server
        self._cuts = cuts

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, self._carry, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _carry(self, client: trio.SocketStream) -> None:
        cut = next(self._cuts, Cut())
        server = await trio.open_tcp_stream(self._server.host, self._server.port)
        try:
            async with trio.open_nursery() as nursery:
                for one, other, allowed in ((client, server, cut.up), (server, client, cut.down)):
                    nursery.start_soon(self._pass_on, one, other, allowed, nursery.cancel_scope)
        finally:
            abort(client)
            abort(server)

    async def _pass_on(
        self,
        one: trio.SocketStream,
        other: trio.SocketStream,
        allowed: float,
        scope: trio.CancelScope,
    ) -> None:
        with suppress(*BROKEN):
            while allowed > 0 and (data := await one.receive_some(65536)):
                await other.send_all(data[: int(min(allowed, len(data)))])
                allowed -= len(data)
        self.made += allowed <= 0
        scope.cancel()


def abort(stream: trio.SocketStream) -> None:
    """Reset the connection."""
    with suppress(OSError):
        stream.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
