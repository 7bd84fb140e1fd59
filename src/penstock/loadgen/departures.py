"""What a server goes on doing for one reader that has left, or that has stopped reading."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import trio

from penstock.loadgen.plan import Plan
from penstock.loadgen.probes import Seen
from penstock.loadgen.reader import Readers, Visit
from penstock.loadgen.statistics import quiet_from
from penstock.loadgen.wake import Followed, Wake, Way, wake

BEAT_S = 0.01
QUIET_S = 0.5
"""Without work for as long, a server has stopped."""
LEVEL = 0.1
"""More than this part of a core is work."""

Cpu: TypeAlias = Callable[[], float]
Look: TypeAlias = Callable[[], Awaitable[Seen]]
MayRest: TypeAlias = Callable[[], bool]
"""Whether the request has ended, or nobody reads it any more: before, no rest is believed."""
Watch: TypeAlias = Callable[[MayRest], Awaitable[Followed]]


class DepartureError(Exception):
    """The server gave no stream that could be left, or never came to rest."""


class Departures:
    """Tries on a server that nobody else uses meanwhile."""

    def __init__(self, readers: Readers, plan: Plan, patience_s: float) -> None:
        self._readers = readers
        self._plan = plan
        self._patience_s = patience_s

    async def by_cpu(self, way: Way, tries: int, cpu: Cpu) -> Wake:
        """Watch the CPU time of the server's process."""
        watch = partial(self._watch_cpu, cpu)
        return wake(way, "cpu", [await self._try(way, watch) for _ in range(tries)])

    async def by_metrics(self, way: Way, tries: int, look: Look) -> Wake:
        """Watch what the server says of itself."""
        watch = partial(self._watch_metrics, look)
        return wake(way, "metrics", [await self._try(way, watch) for _ in range(tries)])

    async def _try(self, way: Way, watch: Watch) -> Followed:
        visit = Visit(self._readers, self._plan.next(way))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit.run)
            if way != "reader":
                await self._turned(visit)
            followed = await watch(lambda: visit.ending is not None)
            nursery.cancel_scope.cancel()
        await watch(lambda: True)  # until it is at rest for the next one
        return followed

    async def _turned(self, visit: Visit) -> None:
        with trio.move_on_after(self._patience_s):
            await visit.turned.wait()
        if visit.ending not in ("left", "held"):
            told = f"{visit.ending}, {visit.detail}" if visit.ending else "nothing came in time"
            raise DepartureError(f"no stream to turn away from: {told}")

    async def _watch_cpu(self, cpu: Cpu, may_rest: MayRest) -> Followed:
        start_s, before = trio.current_time(), cpu()
        times, used = [0.0], [0.0]
        while times[-1] < self._patience_s:
            await trio.sleep(BEAT_S)
            times.append(trio.current_time() - start_s)
            used.append(cpu() - before)
            last = quiet_from(times, used, level=LEVEL) or 0.0
            if times[-1] - last > QUIET_S and may_rest():
                return last, used[-1]
        return None, used[-1]

    async def _watch_metrics(self, look: Look, may_rest: MayRest) -> Followed:
        """At rest is a server that serves nobody, or that makes no more tokens: who has stopped
        reading may keep a slot."""
        start_s, before = trio.current_time(), await look()
        made, last = before.tokens, 0.0
        while (now_s := trio.current_time() - start_s) < self._patience_s:
            seen = await look()
            if seen.tokens > made:
                made, last = seen.tokens, now_s
            if may_rest() and (seen.busy == 0 or now_s - last > QUIET_S):
                return now_s if seen.busy == 0 else last, made - before.tokens
            await trio.sleep(BEAT_S)
        return None, made - before.tokens
