"""How much of something a peer may do: so much at once, and so much a second."""

from __future__ import annotations


class Budget:
    """A bucket of `burst` units that fills with `per_s` units a second. Pure: `now` is given."""

    def __init__(self, burst: float, per_s: float, *, now: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = now

    def spend(self, count: float, *, now: float) -> bool:
        """Take `count` units; False when they are not there, and ever less than nothing is left."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - count
        self._at = now
        return self._left >= 0

    def earn(self, count: float) -> None:
        """Give units for work that the peer has a reason to answer."""
        self._left = min(self._burst, self._left + count)
