"""One run of `penstock bench`: its parts one after the other, and the account of them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

import msgspec
import trio

from penstock import __version__
from penstock.loadgen import isolation, phases, probes
from penstock.loadgen.answer import Headers
from penstock.loadgen.departures import Departures
from penstock.loadgen.dialect import Dialect
from penstock.loadgen.fetch import FetchError, fetch
from penstock.loadgen.figures import Figures, Slo, figures
from penstock.loadgen.isolation import Isolation, Trial
from penstock.loadgen.lengths import Uniform
from penstock.loadgen.outcome import Outcome
from penstock.loadgen.overhead import Meter, Overhead
from penstock.loadgen.plan import Plan, Shape
from penstock.loadgen.probes import Seen
from penstock.loadgen.reader import Habits, Readers
from penstock.loadgen.result import Result, complaints, curve, notes, rows
from penstock.loadgen.runner import Load, Runner, Tally, beside
from penstock.loadgen.statistics import gaps
from penstock.loadgen.wake import Wake, Way
from penstock.loadgen.wire import Connect, Target, hidden_bytes

TURN_AFTER = Uniform(8, 8)
"""Pieces after which a reader leaves whose departure is watched."""
WAYS: tuple[Way, ...] = ("reader", "leaving", "stopped")

Show: TypeAlias = Callable[[str, float, Tally], None]
"""Told of the part that runs, when it will have run (`trio.current_time`), and how it goes."""


@dataclass(frozen=True, slots=True)
class Tries:
    """Departures to watch: `each` for every way. `process`: the server's, on this machine."""

    each: int
    patience_s: float = 20.0
    process: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured, of whom and how. Parts that are None are left out."""

    target: Target
    dialect: Dialect
    headers: Headers = ()
    shape: Shape = field(default_factory=Shape)
    habits: Habits = field(default_factory=Habits)
    slo: Slo = field(default_factory=Slo)
    seed: int = 0
    load: Load | None = None
    trial: Trial | None = None
    tries: Tries | None = None


class Session:
    """Measures one server, and keeps every outcome."""

    def __init__(self, asked: Asked, connect: Connect, show: Show) -> None:
        self._asked = asked
        self._connect = connect
        self._show = show
        self._outcomes: list[Outcome] = []
        self._meter = Meter()

    async def run(self, url: str, command: Sequence[str]) -> Result:
        """Raises `FetchError`, `DepartureError`, and OSError where the process cannot be seen."""
        found: dict[str, Figures | Isolation | list[Wake]] = {}
        if self._asked.tries and self._asked.tries.process is not None:
            probes.cpu_s(self._asked.tries.process)
        server = await self._server()
        measure = partial(self._measure, found)
        await beside(measure, self._meter.run)
        overhead, hidden = self._overhead(), await self._hidden()
        readers = [outcome for outcome in self._outcomes if outcome.kind == "reader"]
        return Result(
            version=__version__,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            url=url,
            server=server,
            model=self._asked.dialect.model,
            asked=list(command),
            overhead=overhead,
            ttft_curve=curve([it.first_s for it in readers if it.first_s is not None]),
            itl_curve=curve([gap for it in readers for gap in gaps(it.times)]),
            complaints=complaints(self._outcomes),
            notes=list(notes(self._outcomes, self._asked.shape.stopped_tokens, hidden)),
            requests=rows(self._outcomes),
            **found,  # type: ignore[arg-type]
        )

    async def _measure(self, found: dict[str, Figures | Isolation | list[Wake]]) -> None:
        if self._asked.load:
            found["figures"] = await self._run_load(self._asked.load)
        if self._asked.trial:
            found["isolation"] = await self._run_trial(self._asked.trial)
        if self._asked.tries:
            found["departures"] = await self._run_tries(self._asked.tries)

    async def _run_load(self, load: Load) -> Figures:
        readers, tally = self._readers(), Tally()
        runner = Runner(readers, self._plan(), tally)
        await self._watched("load", load.end_s, tally, partial(runner.run, load))
        return figures(tally.outcomes, load.warmup_s, load.end_s, self._asked.slo)

    async def _run_trial(self, trial: Trial) -> Isolation:
        readers, tally, measured = self._readers(), Tally(), list[isolation.Phase]()
        runner = Runner(readers, self._plan(), tally)

        async def run() -> None:
            measured.extend(await phases.run_phases(trial, readers, runner))

        await self._watched("isolation", trial.duration_s, tally, run)
        return isolation.account(trial, measured, tally.outcomes)

    async def _run_tries(self, tries: Tries) -> list[Wake]:
        patient = replace(self._asked.habits, hold_s=float("inf"), patience_s=float("inf"))
        readers = self._readers(patient)
        length = Uniform(self._asked.shape.stopped_tokens, self._asked.shape.stopped_tokens)
        shape = replace(self._asked.shape, output=length, leaves_after=TURN_AFTER)
        departures = Departures(readers, Plan(self._asked.seed, shape), tries.patience_s)
        found: list[Wake] = []

        async def run() -> None:
            for way in WAYS:
                if tries.process is not None:
                    cpu = partial(probes.cpu_s, tries.process)
                    found.append(await departures.by_cpu(way, tries.each, cpu))
                if await self._look() is not None:
                    found.append(await departures.by_metrics(way, tries.each, self._seen))

        await self._watched("departures", 0, Tally(), run)
        return found

    async def _watched(
        self, part: str, duration_s: float, tally: Tally, run: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await beside(run, partial(self._tell, part, trio.current_time() + duration_s, tally))
        finally:
            self._outcomes += tally.outcomes

    async def _tell(self, part: str, due_s: float, tally: Tally) -> None:
        while True:
            self._show(part, due_s, tally)
            await trio.sleep(0.25)

    def _readers(self, habits: Habits | None = None) -> Readers:
        asked = self._asked
        return Readers(
            asked.target,
            self._connect,
            asked.dialect,
            asked.headers,
            habits or asked.habits,
            trio.current_time(),
        )

    def _plan(self) -> Plan:
        return Plan(self._asked.seed, self._asked.shape)

    def _overhead(self) -> Overhead:
        late = [outcome.begun_s - outcome.meant_s for outcome in self._outcomes]
        return self._meter.read(sum(len(outcome.times) for outcome in self._outcomes), late)

    async def _hidden(self) -> int | None:
        if os.name != "posix" or not any(it.kind == "stopped" for it in self._outcomes):
            return None
        return await trio.to_thread.run_sync(hidden_bytes)

    async def _server(self) -> str:
        seen = await self._look()
        return seen.server if seen else ""

    async def _look(self) -> Seen | None:
        """What the server's metrics say, if it has any that are known."""
        root = self._asked.target.base.removesuffix("/v1")
        try:
            page = await fetch(self._asked.target, self._connect, f"{root}/metrics")
        except FetchError:
            return None
        return probes.read_metrics(page.decode(errors="replace"))

    async def _seen(self) -> Seen:
        seen = await self._look()
        if seen is None:
            raise FetchError("/metrics: gone")
        return seen


async def first_model(target: Target, connect: Connect, headers: Headers) -> str:
    """The first model that the server lists. Raises `FetchError`."""
    page = await fetch(target, connect, f"{target.base}/models", headers)
    try:
        return str(msgspec.json.decode(page)["data"][0]["id"])
    except (msgspec.MsgspecError, LookupError, TypeError):
        raise FetchError(f"{target.base}/models lists no model; name one with --model") from None
