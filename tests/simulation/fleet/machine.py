"""What can happen to a process from outside."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .connection import Line


class Machine:
    """A process as the kernel sees it: it can be stopped, and go on, and be killed."""

    def __init__(self, random: Random, network: trio.Nursery) -> None:
        self.random = random
        self.network = network
        """What was sent is on its way, whatever becomes of the process."""
        self.dead = False
        self.lines: dict[Line, None] = {}
        self._running = trio.Event()
        self._running.set()

    @property
    def frozen(self) -> bool:
        return not self._running.is_set()

    async def awake(self) -> None:
        """Return once it is not stopped. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while not self._running.is_set():
            await self._running.wait()

    def freeze(self) -> None:
        """As SIGSTOP does."""
        self._running = trio.Event()

    def thaw(self) -> None:
        self._running.set()

    def kill(self) -> None:
        """It says nothing to anybody any more."""
        self.dead = True
        self.disconnect()
        self.thaw()

    def disconnect(self) -> None:
        for line in self.lines:
            line.break_()
