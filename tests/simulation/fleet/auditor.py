"""What must hold of each process of a fleet whenever every task is waiting."""

from __future__ import annotations

import trio
import trio.abc

from ..auditor import find_schedule_fault
from .process import Process
from .world import FleetWorld

HELD = 8
"""Tokens that an unfinished character or the beginning of a stop string may hold back."""


class FleetAuditor(trio.abc.Instrument):
    """Notes the first promise that was broken, and ends the world."""

    def __init__(self, world: FleetWorld, scope: trio.CancelScope) -> None:
        self.broken: str | None = None
        self._world = world
        self._scope = scope

    def before_io_wait(self, timeout: float) -> None:
        if self.broken is not None:
            return
        try:
            found = (self._find(process) for process in self._world.processes.values())
            self.broken = next(filter(None, found), None)
        except Exception as error:  # Trio would only log it
            self.broken = repr(error)
        if self.broken is not None:
            self._scope.cancel()

    def _find(self, process: Process) -> str | None:
        engine, thread, settings = process.engine, process.thread, self._world.settings
        if engine is None or thread is None or not thread.turned:
            return None
        thread.turned = False
        if engine.misuse:
            return f"{process.name}: {engine.misuse[0]}"
        for sequence in engine.seated:
            # Without a job, it is written to whoever asked for it.
            through = self._world.book.through(sequence.prompt)
            ahead = 0 if through is None else sequence.made - through
            if ahead > settings.lookahead + 2 + HELD:
                return f"{process.name}: {ahead} tokens beyond what is written"
        return find_schedule_fault(process.service, engine, settings)
