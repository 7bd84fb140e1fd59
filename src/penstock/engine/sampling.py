"""From logits to tokens. The path that a row takes depends on its request, never on the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.engine.philox import uniforms
from penstock.requests import Sampling

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draw:
    """What one row needs: its parameters, its seed, and the index of the token to be drawn."""

    sampling: Sampling
    seed: int
    index: int
    choice: int = 0


def sample(logits: Logits, draws: Sequence[Draw]) -> list[int]:
    """One token id for each row of `logits` `[rows, vocab]`."""
    tokens: list[int] = logits[: len(draws)].argmax(axis=1).tolist()
    rows = [row for row, draw in enumerate(draws) if not draw.sampling.greedy]
    if rows:
        chosen = _sample_rows(logits[rows], [draws[row] for row in rows])
        for row, token in zip(rows, chosen, strict=True):
            tokens[row] = token
    return tokens


def _sample_rows(logits: Logits, draws: Sequence[Draw]) -> list[int]:
    weights = _weights(logits, draws)
    for row, draw in enumerate(draws):
        _truncate(weights[row], draw.sampling)
    # Double precision: a float32 running sum over 150,000 words loses the tail.
    sums = weights.cumsum(axis=1, dtype=np.float64)
    points = _points(draws) * sums[:, -1]
    return [
        min(int(total.searchsorted(point, side="right")), len(total) - 1)
        for total, point in zip(sums, points, strict=True)
    ]


def _weights(logits: Logits, draws: Sequence[Draw]) -> Logits:
    """Unnormalised probabilities, the largest of each row being 1."""
    temperatures = np.array([draw.sampling.temperature for draw in draws], np.float32)
    shifted = logits - logits.max(axis=1, keepdims=True)
    # A tiny temperature overflows to -inf, whose weight is 0: as good as greedy.
    with np.errstate(over="ignore"):
        shifted /= temperatures[:, None]
    weights: Logits = np.exp(shifted, out=shifted)
    return weights


def _truncate(weights: Logits, sampling: Sampling) -> None:
    """Zero what top_k and top_p exclude, in place. The likeliest token always stays."""
    if 0 < sampling.top_k < len(weights):
        kept = np.argpartition(weights, -sampling.top_k)[-sampling.top_k :]
        weights[_others(weights, kept)] = 0
    if sampling.top_p < 1.0:
        order = np.argsort(-weights, kind="stable")
        sums = weights[order].cumsum(dtype=np.float64)
        count = int(sums.searchsorted(sampling.top_p * sums[-1], side="left")) + 1
        weights[order[count:]] = 0


def _others(weights: Logits, kept: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    mask = np.ones(len(weights), bool)
    mask[kept] = False
    return mask


def _points(draws: Sequence[Draw]) -> npt.NDArray[np.float64]:
    words = [(draw.seed, draw.choice, draw.index) for draw in draws]
    seeds, choices, indices = np.array(words, np.uint64).T
    return uniforms(seeds, choices, indices)
