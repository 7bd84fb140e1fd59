"""Which steps are replayed as a CUDA graph, and over how many rows.

A captured graph does what it did when it was captured: same addresses, same shapes, same numbers
where the CPU reads them. So a step is captured for a few numbers of rows, and one between two of
them takes along the rows behind it. What such a row computes goes nowhere: its one number of KV
lands behind the end of what it holds, where nobody reads before the row itself has written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

NOT_CAPTURED = -1
"""The id by which onnxruntime is told to run as usual."""


def graph_ids() -> Iterator[int]:
    """For one session. 0 is left out, which stands for a run that is told none."""
    return count(1)


@dataclass(frozen=True, slots=True)
class Capture:
    """One graph: `rows` of a step, and the number that onnxruntime knows it by."""

    rows: int
    graph_id: int


class Captures:
    """The graphs of steps of up to `limit` rows, over `slots` rows of `max_len` positions.

    `ids` are those of the session, each of them used once: under one that is known, onnxruntime
    replays what was captured, were it over memory that has been freed since.
    """

    def __init__(self, *, limit: int, slots: int, max_len: int, ids: Iterator[int]) -> None:
        self.all = tuple(Capture(rows, next(ids)) for rows in _sizes(min(limit, slots)))
        self._max_len = max_len
        self._limit = self.all[-1].rows if self.all else 0

    def __repr__(self) -> str:
        return f"<Captures of {[each.rows for each in self.all]} rows>"

    def of(self, rows: int, lengths: npt.NDArray[np.int64]) -> Capture | None:
        """The smallest that holds `rows`; None where the step is to be run as usual.

        `lengths` are those of all slots. A row that is full has no place behind its end.
        """
        if rows > self._limit:
            return None
        found = next(each for each in self.all if each.rows >= rows)
        return None if (lengths[rows : found.rows] >= self._max_len).any() else found


def _sizes(limit: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, 24 …: at most a third of a step's rows are taken along."""
    if not limit:
        return []
    steps = (size for power in count() for size in (2 << power, 3 << power))
    sizes = [1]
    while (size := next(steps)) < limit:
        sizes.append(size)
    return sizes if limit == 1 else [*sizes, limit]
