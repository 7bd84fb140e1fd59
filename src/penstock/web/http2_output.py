"""Frames on their way to one socket that many streams share."""

from __future__ import annotations

from typing import Protocol

import trio

GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Wire(Protocol):
    """The connection as HTTP/2 needs it."""

    def write_nowait(self, data: memoryview) -> int:
        """How many bytes the socket took at once."""

    async def write_some(self, data: memoryview) -> int:
        """Wait for the socket to take some of it."""

    async def close(self) -> None:
        """Say that nothing will follow, and end the connection soon."""

    def cut(self) -> None:
        """End the connection now."""

    def fail(self) -> None:
        """The peer is gone: cancel everything that serves it."""

    def set_idle(self, *, idle: bool) -> None:
        """Whether there is no request."""


class Output:
    """What was framed and has not left. Frames cannot be taken back, so their order is fixed here.

    A stream frames its bytes only while it holds `turn` and nothing is pending, so a reader that
    stops leaves one frame in here for the whole connection, besides answers to its own frames.
    A cancelled writer leaves its frame to `run`: on HTTP/2 a part of a frame would break everybody.
    """

    def __init__(self, wire: Wire, *, patience_s: float) -> None:
        self.turn = trio.Lock()
        self._wire = wire
        self._patience_s = patience_s
        self._pending = bytearray()
        self._leaving = 0
        self._dead = False
        self._more = trio.Event()
        self._flushed = trio.Event()

    @property
    def size(self) -> int:
        """Bytes that wait for the socket."""
        return len(self._pending) + self._leaving

    def push(self, data: bytes) -> None:
        """Hand over bytes; what the socket takes at once is gone when this returns."""
        if not data or self._dead:
            return
        sent = 0 if self.size else self._try(memoryview(data))
        if sent < len(data) and not self._dead:
            self._pending += memoryview(data)[sent:]
            self._more.set()

    def _try(self, data: memoryview) -> int:
        try:
            return self._wire.write_nowait(data)
        except GONE:
            self._die()
            return 0

    def _die(self) -> None:
        self._dead = True
        self._wire.fail()

    async def take_turn(self) -> None:
        """Return when it is the caller's turn to frame something. It releases `turn`."""
        try:
            # Saves a scheduler pass a write.
            self.turn.acquire_nowait()
        except trio.WouldBlock:
            await self.turn.acquire()
        try:
            await self.flushed()
        except BaseException:
            self.turn.release()
            raise

    async def flushed(self) -> None:
        """Return when the kernel has everything."""
        if self._dead:
            await trio.lowlevel.checkpoint()
        while self.size and not self._dead:
            await self._flushed.wait()

    async def run(self) -> None:
        """Write what the socket did not take at once; a socket that takes nothing is cut."""
        while True:
            self._more = trio.Event()
            if not self._pending:
                await self._more.wait()
            with trio.move_on_after(self._patience_s) as patience:
                await self._write()
            if patience.cancelled_caught or self._dead:
                self._dead = True
                self._wire.cut()
                return
            self._flushed.set()
            self._flushed = trio.Event()

    async def _write(self) -> None:
        batch, self._pending = memoryview(bytes(self._pending)), bytearray()
        self._leaving = len(batch)
        try:
            while self._leaving:
                self._leaving -= await self._wire.write_some(batch[-self._leaving :])
        except GONE:
            self._die()
