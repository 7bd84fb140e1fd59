"""Percentiles that do not flatter, and what two runs of phases say about each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

SHARES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of `n` values, of which `censored` were still growing when the run ended.

    Those are taken as larger than all others, so a percentile that falls among them is None:
    all that is known is that it lies beyond `highest`. The mean is of the rest.
    """

    n: int
    censored: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    highest: float | None


def summarise(values: Iterable[float], *, censored: int = 0) -> Summary:
    known = sorted(values)
    total = len(known) + censored
    p50, p90, p95, p99 = (at_share(known, share, total) for share in SHARES)
    mean = math.fsum(known) / len(known) if known else None
    highest = known[-1] if known else None
    return Summary(total, censored, mean, p50, p90, p95, p99, highest)


def at_share(ordered: Sequence[float], share: float, total: int) -> float | None:
    """The smallest value that at least `share` of all `total` do not exceed: never between two."""
    rank = max(1, math.ceil(share * total - 1e-9))
    return ordered[rank - 1] if rank <= len(ordered) else None


def gaps(times: Sequence[float]) -> list[float]:
    """Seconds between neighbours."""
    return [later - earlier for earlier, later in pairwise(times)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ratios of pairs of neighbouring phases: their median, and how far they lie apart."""

    pairs: int
    median: float | None
    low: float | None
    high: float | None


def compare(without: Sequence[float], among: Sequence[float]) -> Comparison:
    """Each of `among` over its neighbour in `without`; pairs without a base say nothing."""
    pairs = zip(without, among, strict=False)
    ratios = sorted(there / base for base, there in pairs if base > 0)
    if not ratios:
        return Comparison(0, None, None, None)
    middle = len(ratios) // 2
    median = (ratios[middle] + ratios[-middle - 1]) / 2
    return Comparison(len(ratios), median, ratios[0], ratios[-1])


def quiet_from(times: Sequence[float], used: Sequence[float], *, level: float) -> float | None:
    """The end of the last interval of which more than `level` was used; None where none was.

    `used[i]` is what a counter of seconds showed at `times[i]`.
    """
    for index in range(len(times) - 1, 0, -1):
        wall = times[index] - times[index - 1]
        if used[index] - used[index - 1] > level * wall:
            return times[index]
    return None
