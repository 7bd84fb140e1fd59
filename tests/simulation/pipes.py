"""Connections in memory: a bounded buffer each way, and a reset at any byte."""

from __future__ import annotations

import socket

import trio


class Pipe:
    """One direction. `capacity` bytes wait for a reader who does not read, and no more."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._data = bytearray()
        self._changed = trio.lowlevel.ParkingLot()
        self._ended = False
        self._broken = False

    async def write(self, data: bytes) -> int:
        """Bytes that were taken, one at least."""
        await trio.lowlevel.checkpoint()
        while len(self._data) >= self._capacity and not self._broken:
            await self._changed.park()
        return self.write_nowait(data)

    def write_nowait(self, data: bytes) -> int:
        """Bytes that were taken."""
        if self._broken or self._ended:
            raise trio.BrokenResourceError
        taken = data[: self._capacity - len(self._data)]
        self._data += taken
        self._changed.unpark_all()
        return len(taken)

    async def read(self, most: int) -> bytes:
        """Some bytes; none at the end."""
        await trio.lowlevel.checkpoint()
        while not (self._data or self._ended or self._broken):
            await self._changed.park()
        if self._broken:
            raise trio.BrokenResourceError
        data = bytes(self._data[:most])
        del self._data[:most]
        self._changed.unpark_all()
        return data

    def end(self) -> None:
        self._ended = True
        self._changed.unpark_all()

    def cut(self) -> None:
        """What is in it is lost, for both ends."""
        self._broken = True
        self._changed.unpark_all()


class PipeSocket:
    """What a connection asks of its socket."""

    family = socket.AF_INET

    def __init__(self, stream: PipeStream) -> None:
        self._stream = stream

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 2

    def setsockopt(self, *option: int) -> None:
        """There is nothing to tune."""

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        self._stream.end()

    def close(self) -> None:
        self._stream.reset()


class PipeStream:
    """One end of a connection."""

    def __init__(self, inward: Pipe, outward: Pipe) -> None:
        self.socket = PipeSocket(self)
        self._in = inward
        self._out = outward

    async def receive_some(self, most: int) -> bytes:
        return await self._in.read(most)

    async def send_some(self, data: bytes) -> int:
        return await self._out.write(data)

    def send_nowait(self, data: bytes) -> int:
        return self._out.write_nowait(data)

    async def send_all(self, data: bytes) -> None:
        while data:
            data = data[await self._out.write(data) :]

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self.end()

    async def aclose(self) -> None:
        """As a kernel does it: what was written still arrives, what comes back is refused."""
        self._out.end()
        self._in.cut()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        self._out.end()

    def reset(self) -> None:
        self._in.cut()
        self._out.cut()


def make_pair(capacity: int) -> tuple[PipeStream, PipeStream]:
    """Two ends of a connection that buffers this many bytes each way."""
    one, other = Pipe(capacity), Pipe(capacity)
    return PipeStream(one, other), PipeStream(other, one)
