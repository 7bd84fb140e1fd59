"""Medians with 95 % intervals from order statistics: no distribution is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """`low` to `high` holds the true median in 95 of 100 such measurements, or more."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def interval(values: Sequence[float]) -> Interval:
    ordered = sorted(values)
    outside = _outside(len(ordered))
    return Interval(median(ordered), ordered[outside], ordered[-1 - outside])


def _outside(count: int) -> int:
    """How many values may be left out on each side."""
    left, tail = -1, 0.0
    while tail <= (1 - CONFIDENCE) / 2:
        left += 1
        tail += comb(count, left) / 2**count
    return max(left - 1, 0) if left else 0
