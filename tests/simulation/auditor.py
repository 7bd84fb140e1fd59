"""What must hold whenever every task is waiting, looked at each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import trio
import trio.abc
from prometheus_client import Counter

from penstock.events import Delta, Ended, Event, Failed, Finished, Terminal
from penstock.generation import Generation
from penstock.jobs.memory import MemoryStore
from penstock.live import Live
from penstock.pipeline import Emit, Encoder, Pace, Sink, SinkNowait, Source
from penstock.service import Service
from penstock.settings import Settings
from penstock.web.app import App
from penstock.web.stream import WholeSink

from .scripted import ScriptedEngine

Run: TypeAlias = Callable[..., Any]


class Stream:
    """A generation that is written as it is made: its source and its sink, and what passed them."""

    def __init__(self, source: Generation, sink: Sink) -> None:
        self.source = source
        self.emitted = 0
        self.written = 0
        self._sink = sink
        self.release = sink.release
        self.open = sink.open
        self.permit = sink.permit

    async def __call__(self, emit: Emit) -> Terminal:
        async def counted(event: Delta | Ended) -> None:
            self.emitted += 1
            await emit(event)

        return await self.source(counted)

    def write_nowait(self, data: bytes, event: Delta | Ended) -> bool:
        written = isinstance(self._sink, SinkNowait) and self._sink.write_nowait(data, event)
        self.written += written and isinstance(event, Delta)
        return written

    async def write(self, data: bytes, event: Event | None) -> None:
        await self._sink.write(data, event)
        self.written += isinstance(event, Delta)


class Auditor(trio.abc.Instrument):
    """Notes the first promise that was broken, and ends the world."""

    def __init__(
        self, app: App, engine: ScriptedEngine, settings: Settings, world: trio.CancelScope
    ) -> None:
        self.broken: str | None = None
        self.streams: dict[Stream, None] = {}
        self._logs: dict[str, tuple[int, frozenset[Any]]] = {}
        self._service = app.service
        self._engine = engine
        self._settings = settings
        self._world = world

    def watch(self, run: Run) -> Run:
        """`pipeline.run`, under observation."""

        async def watched(
            live: Live, source: Source, encoder: Encoder, sink: Sink, *, pace: Pace
        ) -> None:
            if not isinstance(source, Generation) or isinstance(sink, WholeSink):
                await run(live, source, encoder, sink, pace=pace)
                return
            stream = Stream(source, sink)
            self.streams[stream] = None
            try:
                await run(live, stream, encoder, stream, pace=pace)
            finally:
                del self.streams[stream]

        return watched

    def before_io_wait(self, timeout: float) -> None:
        if self.broken is not None:
            return
        try:
            self.broken = self._find()
        except Exception as error:  # Trio would only log it
            self.broken = repr(error)
        if self.broken is not None:
            self._world.cancel()

    def _find(self) -> str | None:
        if self._engine.misuse:
            return self._engine.misuse[0]
        fault = find_schedule_fault(self._service, self._engine, self._settings)
        return fault or self._bound() or self._store() or self._counts()

    def _bound(self) -> str | None:
        """How far the model is ahead of each reader of a direct stream."""
        readers = {
            id(reader.prompt): reader for reader in self._service.default.decoder._readers.values()
        }
        for stream in self.streams:
            if stream.emitted - stream.written > 2:
                return f"{stream.emitted} events for a reader that was written {stream.written}"
            reader = readers.get(id(stream.source.prompt))
            ahead = reader.computed - stream.source.made if reader else 0
            if ahead > self._settings.lookahead + 1:
                return f"{ahead} tokens ahead of what was asked for"
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
            if (broken := _log(log) or self._ahead(log)) is not None:
                return f"{log.job.job_id}: {broken}"
        return None

    def _ahead(self, log: Any) -> str | None:  # noqa: ANN401  # looks where others may not
        """A log grows only as far as its window ahead of those who read it."""
        made, readers = len(log._events), frozenset(log.readers)
        before, readers_before = self._logs.get(log.job.job_id, (0, frozenset()))
        self._logs[log.job.job_id] = made, readers
        if made == before or not readers_before or not readers_before <= readers:
            return None
        if isinstance(log.terminal, Failed):
            return None
        furthest = max(reader.position for reader in readers)
        if made - furthest > self._settings.job_window:
            return f"{made} events with the furthest reader at {furthest}"
        return None

    def _counts(self) -> str | None:
        metrics = self._service.metrics
        ended = sum(map(_total, (metrics.finished, metrics.failed, metrics.cancelled)))
        running = _total(metrics.started) - ended
        if not 0 <= running <= self._service.default.admission.taken:
            return f"{running} generations are counted as running"
        return None


def find_schedule_fault(service: Service, engine: ScriptedEngine, settings: Settings) -> str | None:
    """Of slots and places, and of what is held for readers."""
    schedule, decoder = service.default.decoder.schedule, service.default.decoder
    if not 0 <= schedule.active <= settings.slots:
        return f"{schedule.active} of {settings.slots} slots are taken"
    if len(engine.seated) > schedule.active + len(schedule._released):
        return "the engine keeps a slot that the schedule has given back"
    for entry in decoder._readers:
        if entry.held > max(settings.lookahead, 1):
            return f"{entry.held} tokens are held for one reader"
    if service.default.admission.taken > settings.max_streams:
        return "more places than there are"
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
