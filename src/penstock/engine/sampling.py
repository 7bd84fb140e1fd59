"""From logits to tokens. The path that a row takes depends on its request, never on the batch.

The order: bias and penalties on raw logits (`adjust`), then the largest, or temperature, top_k,
top_p and min_p, each over what the one before has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.engine.adjust import Logits, adjust
from penstock.engine.candidates import Ids, holders, largest, ranked
from penstock.engine.philox import uniform
from penstock.requests import Sampling

NOTHING = -1
_FEW = 4096
"""Up to here one running sum is faster than one over blocks."""
_TOGETHER = 1 << 16
"""Logits in one array: more rows together save calls, but leave the cache."""

Allowed: TypeAlias = npt.NDArray[np.bool_] | None
"""`[vocab]`, or None where every token may be drawn."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What one row needs: its parameters, its seed, the index of the token to be drawn.

    `prompt` and `answer` are the ids so far, which the penalties look at. `allowed` is what a
    grammar leaves.
    """

    sampling: Sampling
    seed: int
    index: int
    choice: int = 0
    prompt: Sequence[int] | npt.NDArray[np.int64] = ()
    answer: Sequence[int] = ()
    allowed: Allowed = None

    def adjust(self, row: Logits) -> Logits:
        """Logits `[vocab]` with bias and penalties: a copy, or `row` itself without any."""
        if not self.sampling.adjusts:
            return row
        return adjust(row, self.sampling, self.prompt, self.answer)

    @property
    def plain(self) -> bool:
        """Whether it takes the largest of the logits as they are."""
        return self.sampling.greedy and not self.sampling.adjusts and self.allowed is None

    def uniform(self) -> float:
        return uniform(self.seed, self.choice, self.index)


def sample(logits: Logits, draws: Sequence[Draw]) -> list[int]:
    """One token id for each row of `logits` `[rows, vocab]`, which is left as it was.

    `NOTHING` where a grammar allows no token that the model could make.
    """
    # A tiny temperature overflows to -inf, whose weight is 0: as good as greedy.
    with np.errstate(over="ignore"):
        return _sample(logits, draws)


def _sample(logits: Logits, draws: Sequence[Draw]) -> list[int]:
    if all(draw.plain for draw in draws):
        largest_of_each: list[int] = logits.argmax(axis=1).tolist()
        return largest_of_each
    tokens = [0] * len(draws)
    whole: dict[int, Logits] = {}
    for index, draw in enumerate(draws):
        row = draw.adjust(logits[index])
        if draw.allowed is not None:
            tokens[index] = _draw_allowed(row, draw, draw.allowed)
        elif _truncates(draw.sampling, len(row)) or draw.sampling.greedy:
            tokens[index] = _draw_alone(row, draw)
        else:
            whole[index] = row
    for part in _parts(list(whole), logits.shape[1]):
        chosen = _draw_whole([whole[index] for index in part], [draws[index] for index in part])
        for index, token in zip(part, chosen, strict=True):
            tokens[index] = token
    return tokens


def _draw_allowed(row: Logits, draw: Draw, allowed: npt.NDArray[np.bool_]) -> int:
    """Draw from the allowed tokens as if the vocabulary were these alone."""
    ids = np.flatnonzero(allowed)
    left = row[ids]
    if not len(ids) or left.max() == -np.inf:
        return NOTHING
    if len(ids) == 1:  # most of JSON's punctuation
        return int(ids[0])
    return int(ids[_draw_alone(left, draw)])


def _draw_alone(row: Logits, draw: Draw) -> int:
    if draw.sampling.greedy:
        return int(row.argmax())
    if _truncates(draw.sampling, len(row)):
        return _draw_truncated(row, draw)
    if len(row) > _FEW:
        return _draw_whole([row], [draw])[0]
    weights = np.exp(_shift(row, row.max(), draw.sampling.temperature, np.empty_like(row)))
    sums = weights.cumsum(dtype=np.float64)
    place = int(sums.searchsorted(draw.uniform() * sums[-1], side="right"))
    return min(place, len(row) - 1)


def _parts(indices: list[int], vocab: int) -> Iterator[list[int]]:
    size = max(1, _TOGETHER // vocab)
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _draw_whole(rows: Sequence[Logits], draws: Sequence[Draw]) -> list[int]:
    """Draw from all tokens: first a block of them, then one of the block.

    A running sum over a block's sums and one over a block replace one over the vocabulary, which
    at 150,000 words took fifteen times as long as the exponentials.
    """
    blocks = _weights(rows, draws)
    sums = blocks.sum(axis=2)
    points = np.array([draw.uniform() for draw in draws])
    row = np.arange(len(rows))
    block, rest = _locate(sums, points)
    place, _ = _locate(blocks[row, block], rest)
    found: list[int] = (block * blocks.shape[2] + place).tolist()
    return found


def _locate(
    weights: Logits, points: npt.NDArray[np.float64]
) -> tuple[Ids, npt.NDArray[np.float64]]:
    """For each row the index on which its point of [0, 1) falls, and where on it, in [0, 1)."""
    ends = weights.cumsum(axis=1, dtype=np.float64)
    targets = points * ends[:, -1]
    # Never past the last index that has a weight, however the products round.
    index = np.minimum((ends <= targets[:, None]).sum(axis=1), (ends < ends[:, -1:]).sum(axis=1))
    row = np.arange(len(weights))
    share = 1 + (targets - ends[row, index]) / weights[row, index]
    return index, share.clip(0, 1)


def _weights(rows: Sequence[Logits], draws: Sequence[Draw]) -> Logits:
    """Unnormalised probabilities `[rows, blocks, width]`, the largest of a row being 1."""
    vocab = len(rows[0])
    width = 64 if vocab < 1 << 15 else 512
    count = -(-vocab // width)
    padded = np.empty((len(rows), count * width), np.float32)
    padded[:, vocab:] = -np.inf
    for out, row, draw in zip(padded, rows, draws, strict=True):
        _shift(row, row.max(), draw.sampling.temperature, out[:vocab])
    return np.exp(padded, out=padded).reshape(len(rows), count, width)


def _shift(row: Logits, top: Logits | np.float32, temperature: float, out: Logits) -> Logits:
    np.subtract(row, top, out=out)
    if temperature != 1.0:
        out /= temperature
    return out


def _draw_truncated(row: Logits, draw: Draw) -> int:
    sampling = draw.sampling
    ids, weights, total = _candidates(row, sampling)
    if not len(ids):  # NaN: a broken row is no reason to fail the other rows
        return int(row.argmax())
    sums = weights.cumsum(dtype=np.float64)
    count = len(ids)
    if sampling.top_p < 1.0:
        reached = int(sums.searchsorted(sampling.top_p * (total or sums[-1]), side="left"))
        count = min(reached + 1, count)
    if sampling.min_p > 0.0:
        count = max(int((weights[:count] >= sampling.min_p).sum()), 1)
    place = int(sums[:count].searchsorted(draw.uniform() * sums[count - 1], side="right"))
    return int(ids[min(place, count - 1)])


def _candidates(row: Logits, sampling: Sampling) -> tuple[Ids, Logits, float]:
    """Ids with all that top_k, top_p and min_p keep, likeliest first, and their weights.

    The third is the weight of all that top_p chooses from, or 0 for that of these.
    """
    if 0 < sampling.top_k < len(row):
        ids = largest(row, sampling.top_k)
        chosen = row[ids]
        return ids, np.exp(_shift(chosen, chosen[:1], sampling.temperature, chosen)), 0.0
    weights = _shift(row, row.max(), sampling.temperature, np.empty_like(row))
    np.exp(weights, out=weights)
    if sampling.top_p < 1.0:
        total = float(weights.sum(dtype=np.float64))
        ids = holders(weights, total, sampling.top_p)
    else:
        total, ids = 0.0, ranked(weights, np.flatnonzero(weights >= sampling.min_p))
    return ids, weights[ids], total


def _truncates(sampling: Sampling, vocab: int) -> bool:
    return 0 < sampling.top_k < vocab or sampling.top_p < 1.0 or sampling.min_p > 0.0
