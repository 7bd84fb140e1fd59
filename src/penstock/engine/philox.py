"""Philox 4x32-10: a random number from a key and a counter, with no state between calls.

The draw for token 17 of a request is therefore the same alone, in any batch, after any eviction.
From J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_WEYL = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10
_AHEAD = 64
"""Numbers made at once: 64 take as long as one, 0.2 ms, much of a small model's step."""


def philox(counter: Words, key: Words) -> Words:
    """Four words from counter `[4, n]` and key `[2, n]`; all hold 32-bit values in uint64."""
    for round_ in range(_ROUNDS):
        product = counter[[0, 2]] * _MULTIPLIERS
        high, low = product >> _HALF, product & _LOW
        round_key = (key + np.uint64(round_) * _WEYL) & _LOW
        mixed = high[::-1] ^ counter[[1, 3]] ^ round_key
        counter = np.stack([mixed[0], low[1], mixed[1], low[0]])
    return counter


def uniforms(
    seeds: npt.NDArray[np.uint64], choices: npt.NDArray[np.uint64], indices: npt.NDArray[np.uint64]
) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), one for each (seed, choice, token index); all arrays are `[n]`."""
    zero = np.zeros_like(indices)
    counter = np.stack([indices & _LOW, indices >> _HALF, choices & _LOW, zero])
    words = philox(counter, np.stack([seeds & _LOW, seeds >> _HALF]))
    # 53 bits: all that a double can hold below one.
    bits = (words[0] << np.uint64(21)) | (words[1] >> np.uint64(11))
    scaled: npt.NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return scaled


def uniform(seed: int, choice: int, index: int) -> float:
    """The number in [0, 1) for one (seed, choice, token index)."""
    return _block(seed, choice, index // _AHEAD)[index % _AHEAD]


@lru_cache(maxsize=2048)
def _block(seed: int, choice: int, block: int) -> tuple[float, ...]:
    indices = np.arange(block * _AHEAD, (block + 1) * _AHEAD, dtype=np.uint64)
    seeds, choices = np.full_like(indices, seed), np.full_like(indices, choice)
    return tuple(uniforms(seeds, choices, indices).tolist())
