"""Load: requests that arrive whether or not others are done, or a fixed number at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from penstock.loadgen.outcome import MEANT, Outcome
from penstock.loadgen.plan import Kind, Mix, Plan
from penstock.loadgen.reader import Readers

PAUSE_S = 0.1
"""After a request that failed, before the same stream asks again: a server that refuses at once
must not be flooded by the answer to it."""


@dataclass(frozen=True, slots=True)
class Load:
    """Either `rate` (requests a second, open loop) or `concurrency` (streams, closed loop).

    Requests of the first `warmup_s` seconds count for nothing; then `duration_s` are measured; then
    nothing is asked any more, and what is still open may take `drain_s` to end.
    """

    duration_s: float
    warmup_s: float = 0.0
    drain_s: float = 30.0
    rate: float | None = None
    concurrency: int | None = None
    mix: Mix = field(default_factory=Mix)

    @property
    def end_s(self) -> float:
        return self.warmup_s + self.duration_s


@dataclass
class Tally:
    """What is known while a run goes on."""

    in_flight: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def endings(self) -> Counter[str]:
        return Counter(outcome.ending for outcome in self.outcomes)

    def tell(self, outcome: Outcome) -> None:
        self.in_flight -= 1
        self.outcomes.append(outcome)


class Runner:
    """Puts one load on one server."""

    def __init__(self, readers: Readers, plan: Plan, tally: Tally) -> None:
        self._readers = readers
        self._plan = plan
        self._tally = tally

    async def run(self, load: Load) -> None:
        """Return when all requests have ended, or `drain_s` after the last was made."""
        begin = self._arrive if load.rate else self._keep
        over_s = self._readers.zero_s + load.end_s + load.drain_s
        with trio.move_on_at(over_s):
            async with trio.open_nursery() as nursery:
                await begin(load, nursery)

    async def _arrive(self, load: Load, nursery: trio.Nursery) -> None:
        assert load.rate
        for at_s in self._plan.arrivals(load.rate):
            if at_s >= load.end_s:
                return
            await trio.sleep_until(self._readers.zero_s + at_s)
            nursery.start_soon(self._ask, load.mix, at_s)

    async def _keep(self, load: Load, nursery: trio.Nursery) -> None:
        assert load.concurrency
        for kind in load.mix.divide(load.concurrency):
            nursery.start_soon(self.repeat, kind, load.end_s)

    async def repeat(self, kind: Kind, end_s: float) -> None:
        """Make one request of `kind` after another until `end_s`, on the clock of the run."""
        while (now_s := self._readers.now_s()) < end_s:
            outcome = await self._ask(kind, now_s)
            if outcome.ending not in MEANT:
                await trio.sleep(PAUSE_S)

    async def _ask(self, kind: Kind | Mix, meant_s: float) -> Outcome:
        self._tally.in_flight += 1
        return await self._readers.read(self._plan.next(kind), meant_s, self._tally.tell)


async def beside(
    run: Callable[[], Awaitable[None]], *others: Callable[[], Awaitable[None]]
) -> None:
    """`run`, with `others` going on until it is done."""
    async with trio.open_nursery() as nursery:
        for other in others:
            nursery.start_soon(partial(other))
        await run()
        nursery.cancel_scope.cancel()
