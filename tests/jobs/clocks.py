"""A time in which a test may jump."""

from __future__ import annotations

import trio

from penstock.jobs.redis.clock import Clock


class JumpingClock(Clock):
    """Redis goes by Trio's time: where a test lets that jump, leases end, and days."""

    def __init__(self) -> None:
        super().__init__()
        self._began_s: float | None = None
        self.set_s = 0.0
        """By how much Redis's clock was set forward, of which no process was told."""

    @property
    def told(self) -> str:
        if self._began_s is None:
            return ""
        return f"{self._began_s + trio.current_time() + self.set_s:.6f}"

    def learn(self, theirs_s: float, asked_s: float) -> float:
        wrong_s = super().learn(theirs_s, asked_s)
        if self._began_s is None:
            self._began_s = self.now_s - trio.current_time()
        return wrong_s
