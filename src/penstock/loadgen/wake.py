"""What a server went on doing for readers that had left, or had stopped reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from penstock.loadgen.statistics import Summary, summarise

Way: TypeAlias = Literal["reader", "leaving", "stopped"]
"""reader: reads all, for comparison."""
Measure: TypeAlias = Literal["cpu", "metrics"]
Followed: TypeAlias = tuple[float | None, float]
"""Seconds until the server was at rest, or None; and what it spent until then."""


@dataclass(frozen=True, slots=True)
class Wake:
    """What followed, over `tries`. `until_s`: from the turning away until the server was at rest;
    censored where it was not within the patience. `cost`: what it spent after it, CPU seconds or
    tokens. `measured`: how that is known.
    """

    way: Way
    measured: Measure
    tries: int
    until_s: Summary
    cost: Summary


def wake(way: Way, measured: Measure, followed: Sequence[Followed]) -> Wake:
    known = [until_s for until_s, _ in followed if until_s is not None]
    return Wake(
        way=way,
        measured=measured,
        tries=len(followed),
        until_s=summarise(known, censored=len(followed) - len(known)),
        cost=summarise(cost for _, cost in followed),
    )
