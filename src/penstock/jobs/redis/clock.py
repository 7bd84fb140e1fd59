"""What time it is for Redis, as far as this process knows."""

from __future__ import annotations

import trio


class Clock:
    """Redis's time in seconds, learnt from its answers.

    Leases are given and compared by Redis alone, in its own time. What is known here says when to
    look again, and that nobody's lease is over before both have come to its end.
    """

    def __init__(self) -> None:
        self._ahead_s: float | None = None

    @property
    def told(self) -> str:
        """The time that scripts go by: none, so that they ask Redis."""
        return ""

    @property
    def now_s(self) -> float:
        return trio.current_time() + (self._ahead_s or 0.0)

    def local_s(self, theirs_s: float) -> float:
        """A moment of Redis's in Trio's time."""
        return theirs_s - (self._ahead_s or 0.0)

    def learn(self, theirs_s: float, asked_s: float) -> float:
        """Redis has just said what time it was for it, to what it was asked at `asked_s`.

        Gives by how much the time that was known was wrong, beyond what the answer's way explains:
        a slow answer moves nothing that it does not contradict.
        """
        least, most = theirs_s - trio.current_time(), theirs_s - asked_s
        known_s = (least + most) / 2 if self._ahead_s is None else self._ahead_s
        self._ahead_s = min(max(known_s, least), most)
        return abs(self._ahead_s - known_s)
