"""The largest of many values, without sorting them all.

Each function looks at a part that provably holds what is asked for, and at everything only where
no such part is found. So a result never depends on which way it was found.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.intp]

_SIGN = np.uint32(1 << 31)
_ALL = np.uint32(2**32 - 1)
_LOW = np.uint64(2**32 - 1)
_HALF = np.uint64(32)

_SPREADS = (64, 1024, 16384)
"""Guesses at how many tokens share the mass that top_p leaves out."""


def largest(values: Values, count: int) -> Ids:
    """Ids of the `count` largest, largest first; of equals the lower id comes first."""
    return ranked(values, _shortlist(values, min(count, len(values))))[:count]


def holders(weights: Values, total: float, share: float) -> Ids:
    """Ids whose weights, taken largest first, reach `share` of `total`; largest first.

    A weight below `left / spread` cannot be needed if all those above it reach the share.
    """
    # The margin is wider than any running sum's rounding error.
    left, needed = (1 - share) * total, share * total * (1 + 1e-9)
    for spread in _SPREADS:
        ids = np.flatnonzero(weights >= left / spread)
        if weights[ids].sum(dtype=np.float64) >= needed:
            return ranked(weights, ids)
    return ranked(weights, np.flatnonzero(weights))


def ranked(values: Values, ids: Ids) -> Ids:
    """`ids` by value, largest first; of equals the lower id comes first.

    Value and id are one integer, so the order is the same whatever algorithm sorts them; numpy
    sorts integers several times faster than it sorts stably.
    """
    bits = values[ids].view(np.uint32)
    descending = np.where(bits & _SIGN, bits, bits ^ _ALL ^ _SIGN)
    keys = (descending.astype(np.uint64) << _HALF) | ids.astype(np.uint64)
    keys.sort()
    return (keys & _LOW).astype(np.intp)


def _shortlist(values: Values, count: int) -> Ids:
    """Ids, ascending, that hold the `count` largest.

    Strided columns: the `count` largest of their maxima are `count` values, so none of the
    `count` largest values lies below the least of those.
    """
    width = 256 if len(values) < 1 << 15 else 1024
    height = len(values) // width
    if count > width // 4 or height < 2:
        return np.flatnonzero(values >= np.partition(values, -count)[-count])
    grid = values[: height * width].reshape(height, width)
    maxima = grid.max(axis=0)
    bound = np.partition(maxima, -count)[-count]
    columns = np.flatnonzero(maxima >= bound)
    rows, picks = np.nonzero(grid[:, columns] >= bound)
    tail = np.flatnonzero(values[height * width :] >= bound) + height * width
    return np.concatenate((rows * width + columns[picks], tail))
