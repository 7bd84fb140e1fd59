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
    """Connections to `server`, each cut as the next of `cuts` says; the rest are left alone.

    The cut is chosen, and its bytes are counted, from the first bytes with `only` in them on.
    """

    def __init__(self, server: Server, cuts: Iterator[Cut], *, only: bytes = b"") -> None:
        self.port = 0
        self.made = 0
        """Connections that were reset."""
        self._server = server
        self._cuts = cuts
        self._only = only

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, self._carry, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _carry(self, client: trio.SocketStream) -> None:
        left = {} if self._only else self._choose()
        server = await trio.open_tcp_stream(self._server.host, self._server.port)
        try:
            async with trio.open_nursery() as nursery:
                for way, one, other in (("up", client, server), ("down", server, client)):
                    nursery.start_soon(self._pass_on, way, one, other, left, nursery.cancel_scope)
        finally:
            abort(client)
            abort(server)

    def _choose(self) -> dict[str, float]:
        """How many bytes may still pass each way."""
        cut = next(self._cuts, Cut())
        return {"up": cut.up, "down": cut.down}

    async def _pass_on(
        self,
        way: str,
        one: trio.SocketStream,
        other: trio.SocketStream,
        left: dict[str, float],
        scope: trio.CancelScope,
    ) -> None:
        with suppress(*BROKEN):
            while left.get(way, inf) > 0 and (data := await one.receive_some(65536)):
                if not left and way == "up" and self._only in data:
                    left.update(self._choose())
                if left.get("down") == 0:
                    break
                await other.send_all(data[: int(min(left.get(way, inf), len(data)))])
                if left:
                    left[way] -= len(data)
        self.made += min(left.values(), default=inf) <= 0
        scope.cancel()


def abort(stream: trio.SocketStream) -> None:
    """Reset the connection."""
    with suppress(OSError):
        stream.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
