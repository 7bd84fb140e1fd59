"""Runs one job: a generation whose events go into a log, until somebody or something ends it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Protocol

import trio

from penstock import pipeline
from penstock.errors import DEADLINE, PenstockError
from penstock.events import Event, Failed, Terminal
from penstock.generation import Generation
from penstock.jobs.store import Log
from penstock.live import Live
from penstock.requests import GenerateRequest


class Host(Protocol):
    """What runs generations."""

    def admit(
        self, request: GenerateRequest, live: Live
    ) -> AbstractAsyncContextManager[Generation]: ...

    def accounted(self, live: Live, source: Generation) -> AbstractContextManager[None]: ...


async def write(log: Log, live: Live, source: Generation, *, wall_s: float) -> None:
    """Run `source` into `log`, which has its terminal event when this returns.

    An end that was computed waits for room in the log like any event; one that was forced does not.
    """
    epoch = await log.claim()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey, log, live)
        with trio.move_on_after(wall_s) as wall, live.scope:
            terminal = live.end(await pipeline.attempt(source, partial(_append, log, epoch, live)))
            live.terminal = told = _with_figures(terminal, source)
            await _append(log, epoch, live, told)
            live.told = True
        if not live.told:
            if wall.cancelled_caught:
                live.stop(PenstockError(DEADLINE, "the job took longer than a job may"))
            live.told = True
            live.terminal = told = _with_figures(live.end(live.stopped()), source)
            await _append(log, epoch, live, told)
        nursery.cancel_scope.cancel()


async def _append(log: Log, epoch: int, live: Live, event: Event) -> None:
    """For a job, its log is the reader: what is in there counts as delivered."""
    started_s = trio.current_time()
    await log.append(epoch, event, urgent=isinstance(event, Failed))
    live.flow.wrote(event, started_s, trio.current_time())


async def _obey(log: Log, live: Live) -> None:
    live.stop(await log.refused())


def _with_figures(terminal: Terminal, source: Generation) -> Terminal:
    return replace(terminal, figures=terminal.figures or source.figures(trio.current_time()))
