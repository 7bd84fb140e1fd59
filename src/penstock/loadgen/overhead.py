"""What the load generator itself costs, and whether it was the bottleneck."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import trio

from penstock.loadgen.statistics import Summary, summarise

BEAT_S = 0.01
BUSY = 0.85
LATE_S = 0.02


@dataclass(frozen=True, slots=True)
class Overhead:
    """`cpu`: the part of one core that the generator used. `lag_s`: how much later than it asked
    its event loop woke a task. `late_s`: how much later than meant its requests began. `verdict`
    names each sign that the generator, rather than the server, was what was measured.
    """

    wall_s: float
    cpu_s: float
    cpu: float
    cpu_us_a_token: float | None
    lag_s: Summary
    late_s: Summary
    cores: int
    verdict: list[str]


class Meter:
    """Measures this process while `run` runs."""

    def __init__(self) -> None:
        self._started_s = trio.current_time()
        self._cpu_s = time.process_time()
        self._lags: list[float] = []

    async def run(self) -> None:
        while True:
            due = trio.current_time() + BEAT_S
            await trio.sleep_until(due)
            self._lags.append(trio.current_time() - due)

    def read(self, pieces: int, late: Sequence[float]) -> Overhead:
        wall_s = trio.current_time() - self._started_s
        cpu_s = time.process_time() - self._cpu_s
        cpu = cpu_s / wall_s if wall_s else 0.0
        lag, lateness = summarise(self._lags), summarise(late)
        return Overhead(
            wall_s=wall_s,
            cpu_s=cpu_s,
            cpu=cpu,
            cpu_us_a_token=1e6 * cpu_s / pieces if pieces else None,
            lag_s=lag,
            late_s=lateness,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
            verdict=list(judge(cpu, lag, lateness)),
        )


def judge(cpu: float, lag: Summary, late: Summary) -> Iterator[str]:
    """Each sign that the generator was too slow for its own load."""
    if cpu > BUSY:
        yield f"it used {cpu:.0%} of a core"
    if (lag.p99 or 0) > LATE_S:
        yield f"its event loop woke {1000 * (lag.p99 or 0):.0f} ms late at p99"
    if (late.p99 or 0) > LATE_S:
        yield f"its requests began {1000 * (late.p99 or 0):.0f} ms late at p99"
