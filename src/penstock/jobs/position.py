"""Where one reader of a log is."""

from __future__ import annotations

from collections.abc import Callable


class Position:
    """See `Reader`. `moved` is called when it has moved: the writer may be waiting for that."""

    def __init__(self, moved: Callable[[], object]) -> None:
        self.position = 0
        self._moved = moved

    def move(self, position: int) -> None:
        self.position = position
        self._moved()
