"""How the events of one generation reached its reader: when, how far, how long it blocked."""

from __future__ import annotations

from collections.abc import Callable

import trio

from penstock.events import Delta, Event, Failed


def _unobserved(seconds: float) -> None:
    """Nobody counts the gaps."""


class Flow:
    """Told of each write to the reader. All times are Trio's, in seconds.

    A gap is what a reader that was ready had to wait for its next token: from the end of one write
    to the beginning of the next. What a reader takes its time for is in `blocked_s` instead.
    """

    def __init__(self) -> None:
        self.began_s = trio.current_time()
        self.blocked_s = 0.0
        self.observe_gap: Callable[[float], object] = _unobserved
        self._wrote_s: float | None = None
        self._through: dict[int, int] = {}
        self._folded: dict[int, int] = {}

    @property
    def delivered(self) -> int:
        """Tokens covered by completed writes, those of all choices together."""
        return sum(self._through.values())

    def folded(self, event: Event) -> None:
        """`event` is part of what will be written later."""
        if not isinstance(event, Failed):
            self._folded[event.choice] = event.through

    def wrote(self, event: Event, started_s: float, ended_s: float) -> None:
        """`event` was written whole."""
        self.blocked_s += ended_s - started_s
        if isinstance(event, Failed):
            return
        if self._wrote_s is not None and isinstance(event, Delta):
            self.observe_gap(started_s - self._wrote_s)
        self._wrote_s = ended_s
        self._through |= self._folded
        self._folded.clear()
        self._through[event.choice] = event.through
