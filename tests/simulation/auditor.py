"""What must hold whenever every task is waiting, looked at each time."""

from __future__ import annotations

from typing import Any

import trio
import trio.abc
from prometheus_client import Counter

from penstock.events import Failed, Finished
from penstock.jobs.memory import MemoryStore
from penstock.settings import Settings
from penstock.web.app import App

from .scripted import ScriptedEngine


class Auditor(trio.abc.Instrument):
    """Notes the first promise that was broken, and ends the world."""

    def __init__(
        self, app: App, engine: ScriptedEngine, settings: Settings, world: trio.CancelScope
    ) -> None:
        self.broken: str | None = None
        self._service = app.service
        self._engine = engine
        self._settings = settings
        self._world = world

    def before_io_wait(self, timeout: float) -> None:
        if self.broken is None and (broken := self._find()) is not None:
            self.broken = broken
            self._world.cancel()

    def _find(self) -> str | None:
        if self._engine.misuse:
            return self._engine.misuse[0]
        return self._schedule() or self._store() or self._counts()

    def _schedule(self) -> str | None:
        schedule, decoder = self._service.decoder.schedule, self._service.decoder
        if not 0 <= schedule.active <= self._settings.slots:
            return f"{schedule.active} of {self._settings.slots} slots are taken"
        if len(self._engine.seated) > schedule.active + len(schedule._released):
            return "the engine keeps a slot that the schedule has given back"
        for entry in decoder._readers:
            if entry.held > max(self._settings.lookahead, 1):
                return f"{entry.held} tokens are held for one reader"
        if self._service.admission.taken > self._settings.max_streams:
            return "more places than there are"
        return None

    def _store(self) -> str | None:
        store = self._service.jobs.store
        assert isinstance(store, MemoryStore)
        logs = list(store._logs.values())
        if store._reserved != sum(log.job.reserved for log in logs):
            return "the bytes reserved are not those of the jobs"
        if store._running != sum(log.terminal is None for log in logs):
            return "the number of running jobs is not that of jobs without an end"
        if len(logs) > self._settings.max_jobs:
            return "more jobs than may be"
        for log in logs:
            if (broken := _log(log)) is not None:
                return f"{log.job.job_id}: {broken}"
        return None

    def _counts(self) -> str | None:
        metrics = self._service.metrics
        ended = sum(map(_total, (metrics.finished, metrics.failed, metrics.cancelled)))
        running = _total(metrics.started) - ended
        if not 0 <= running <= self._service.admission.taken:
            return f"{running} generations are counted as running"
        return None


def _log(log: Any) -> str | None:  # noqa: ANN401  # looks where others may not
    events, window = log._events, log.job.order.window
    made = len(events)
    forced = made and isinstance(events[-1], Failed)
    if window is not None and made - forced - log._acknowledged > window:
        return f"{made} events with {log._acknowledged} acknowledged and a window of {window}"
    ends = sum(isinstance(event, Finished | Failed) for event in events)
    if ends != (log.terminal is not None):
        return f"{ends} ends"
    return None


def _total(counter: Counter) -> int:
    return int(
        sum(
            sample.value
            for family in counter.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )
    )
