"""How long a reader may keep its writer waiting. Pure: times are given."""

from __future__ import annotations


class Patience:
    """A reader may block one write for `deadline_s`, and may be slower than `bytes_s` for as long.

    Without the second rule, one that takes a byte a second just before each deadline lives for
    ever. Bytes taken faster than that pay for time that was waited before.
    """

    def __init__(self, deadline_s: float, bytes_s: float) -> None:
        self._deadline_s = deadline_s
        self._bytes_s = bytes_s
        self._owed_s = 0.0

    def __repr__(self) -> str:
        return f"<Patience {self.left_s:.1f} s left>"

    @property
    def left_s(self) -> float:
        """How long the next write may block; not above zero when it may not."""
        return self._deadline_s - self._owed_s

    def wrote(self, count: int, elapsed_s: float) -> None:
        """A write of `count` bytes took `elapsed_s`."""
        if self._bytes_s:
            self._owed_s = max(0.0, self._owed_s + elapsed_s - count / self._bytes_s)
