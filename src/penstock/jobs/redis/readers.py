"""The readers of one log in this process, and what the others know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from penstock.jobs.position import Position


class Readers:
    """The writer is at most `ahead` of the furthest. `moved` is called when one moves."""

    def __init__(self, ahead: int, moved: Callable[[], object]) -> None:
        self.told: int | None = None
        """Where the others were last told that the furthest is."""
        self._step = max(ahead // 8, 1)
        self._moved = moved
        self._positions: dict[Position, None] = {}

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def furthest(self) -> int | None:
        return max((each.position for each in self._positions), default=None)

    @property
    def news(self) -> bool:
        """Whether the others are to hear of it: seldom, but before a writer has to wait for it."""
        return self.told is None or (self.furthest or 0) >= self.told + self._step

    @contextmanager
    def another(self) -> Iterator[Position]:
        """One more within the block."""
        reader = Position(self._moved)
        self._positions[reader] = None
        try:
            yield reader
        finally:
            del self._positions[reader]
