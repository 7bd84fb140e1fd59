"""Limits on use, decided from the time that the caller says it is. Pure; nothing here waits.

A `Bucket` fills steadily and may be emptied at once: so much a minute. A `DayCount` starts again at
midnight UTC: so much a day. Both grant as much as is left of what is wanted, and take back what was
not used. `jobs/redis/lua/use.lua` counts the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Protocol

DAY_S = 86_400
MINUTE_S = 60


class Meter(Protocol):
    """What one account has used under one limit. Times are in seconds since 1970."""

    def free(self, now_s: float) -> int:
        """How many may be leased now."""

    def lease(self, now_s: float, wanted: int) -> int:
        """Count up to `wanted` as used, as much as is left."""

    def wait_s(self, now_s: float, wanted: int) -> float:
        """Until so many are left, if nobody else takes any."""

    def refund(self, now_s: float, tokens: int) -> None: ...

    def used(self, now_s: float) -> int: ...


@dataclass(slots=True)
class Bucket:
    """`limit` a minute; as many at once after a minute of silence."""

    limit: int
    _missing: float = 0.0
    _seen_s: float = 0.0

    def free(self, now_s: float) -> int:
        self._fill(now_s)
        return floor(self.limit - self._missing + 1e-9)

    def lease(self, now_s: float, wanted: int) -> int:
        granted = min(wanted, self.free(now_s))
        self._missing += granted
        return granted

    def wait_s(self, now_s: float, wanted: int) -> float:
        self._fill(now_s)
        short = wanted - (self.limit - self._missing)
        return max(short, 0) * MINUTE_S / self.limit

    def refund(self, now_s: float, tokens: int) -> None:
        self._fill(now_s)
        self._missing = max(self._missing - tokens, 0.0)

    def used(self, now_s: float) -> int:
        self._fill(now_s)
        return round(self._missing)

    def _fill(self, now_s: float) -> None:
        elapsed_s = max(now_s - self._seen_s, 0.0)
        self._missing = max(self._missing - elapsed_s * self.limit / MINUTE_S, 0.0)
        self._seen_s = max(self._seen_s, now_s)


@dataclass(slots=True)
class DayCount:
    """`limit` a day, by UTC."""

    limit: int
    _used: int = 0
    _day: int = 0

    def free(self, now_s: float) -> int:
        self._turn(now_s)
        return self.limit - self._used

    def lease(self, now_s: float, wanted: int) -> int:
        granted = min(wanted, self.free(now_s))
        self._used += granted
        return granted

    def wait_s(self, now_s: float, wanted: int) -> float:
        if self.free(now_s) >= wanted:
            return 0.0
        return (self._day + 1) * DAY_S - now_s

    def refund(self, now_s: float, tokens: int) -> None:
        """Of tokens that were leased today."""
        self._turn(now_s)
        self._used = max(self._used - tokens, 0)

    def used(self, now_s: float) -> int:
        self._turn(now_s)
        return self._used

    def _turn(self, now_s: float) -> None:
        day = int(now_s // DAY_S)
        if day > self._day:
            self._day, self._used = day, 0
