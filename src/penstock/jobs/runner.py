"""Runs one job: a generation whose events go into a log, until somebody or something ends it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import trio

from penstock import pipeline
from penstock.errors import DEADLINE, UNAVAILABLE, Kind, PenstockError, internal
from penstock.events import Event, Failed, Terminal
from penstock.generation import Generation
from penstock.jobs.store import LeaseLostError, Log
from penstock.live import Live
from penstock.requests import GenerateRequest

log = logging.getLogger(__name__)

MOVED = Kind("moved", "server_error", 500, retryable=True, reason="moved")
"""Counted where a job goes on in another process. No client is told."""

GiveBack: TypeAlias = Callable[[Log, int], Awaitable[None]]


class Accounted(Protocol):
    """What counts generations."""

    def accounted(self, live: Live, source: Generation) -> AbstractContextManager[None]: ...


class Host(Accounted, Protocol):
    """What runs generations."""

    def admit(
        self, request: GenerateRequest, live: Live, *, job: str
    ) -> AbstractAsyncContextManager[Generation]: ...

    def most_tokens(self, request: GenerateRequest) -> int: ...

    @property
    def decodes(self) -> bool:
        """Whether it does, or whoever shares the store does."""


@dataclass(slots=True, eq=False)
class Run:
    """One process's run of a job, which it writes in `epoch`.

    With `give_back`, a job that is ended because this process shuts down goes on in another one.
    """

    log: Log
    epoch: int
    live: Live
    source: Generation
    give_back: GiveBack | None = None
    lost: bool = False
    refused: bool = False
    """Nobody wants it, in another process either."""

    async def write(self, *, wall_s: float) -> None:
        """Run the source into the log, which has its terminal event when this returns.

        An end that was computed waits for room in the log like any event; one that was forced does
        not. Raises `LeaseLostError` where another process writes it now.
        """
        live = self.live
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey)
            with trio.move_on_after(wall_s) as wall, live.scope:
                terminal = live.end(await pipeline.attempt(self.source, self._append))
                live.terminal = told = _with_figures(terminal, self.source)
                await self._append(told)
                live.told = True
            if not live.told and not self.lost:
                if wall.cancelled_caught:
                    live.stop(PenstockError(DEADLINE, "the job took longer than a job may"))
                live.told = True
                live.terminal = told = _with_figures(live.end(live.stopped()), self.source)
                await self._end(told)
            nursery.cancel_scope.cancel()
        if self.lost:
            live.terminal = _moved()
            raise LeaseLostError

    async def _end(self, told: Terminal) -> None:
        """A forced end: of the job, or of this process only."""
        leaves = isinstance(told, Failed) and told.error.kind is UNAVAILABLE
        if self.give_back and leaves and not self.refused:
            await self.give_back(self.log, self.epoch)
            self.live.terminal = _moved()
        else:
            await self._append(told)

    async def _append(self, event: Event) -> None:
        """For a job, its log is the reader: what is in there counts as delivered."""
        started_s = trio.current_time()
        try:
            await self.log.append(self.epoch, event, urgent=isinstance(event, Failed))
        except LeaseLostError:
            # Not raised through the generation, whose failures are told to the reader.
            self.lost = True
            self.live.scope.cancel()
            await trio.lowlevel.checkpoint()
        else:
            self.live.flow.wrote(event, started_s, trio.current_time())

    async def _obey(self) -> None:
        error = await self.log.refused()
        self.refused = True
        self.live.stop(error)


async def end_on_fault(job: Log, epoch: int) -> None:
    """End a job on an exception that is ours.

    It is not tried again: nothing says that it would fare better. Where there can be no end
    either, its lease runs out, and another process tries.
    """
    try:
        await job.append(epoch, Failed(internal()), urgent=True)
    except LeaseLostError:
        return  # it has an end, or another writer
    except Exception:
        log.exception("a job has no end")


def _moved() -> Failed:
    return Failed(PenstockError(MOVED, "another process goes on with this"))


def _with_figures(terminal: Terminal, source: Generation) -> Terminal:
    return replace(terminal, figures=terminal.figures or source.figures(trio.current_time()))
