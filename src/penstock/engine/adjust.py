"""Logit bias and the three penalties, on raw logits.

`repetition_penalty` is Hugging Face's: what occurs in the prompt or in the answer has a positive
logit divided by it, a negative one multiplied. `frequency_penalty` and `presence_penalty` are
OpenAI's: subtracted for each occurrence in the answer, and once for what occurs there at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.requests import Biases, Sampling

Logits: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]


def adjust(
    row: Logits, sampling: Sampling, prompt: Sequence[int] | Ids, answer: Sequence[int]
) -> Logits:
    """A copy of the logits `[vocab]` with bias and penalties; `answer` is what was generated."""
    row = row.copy()
    if sampling.logit_bias:
        ids, amounts = _arrays(sampling.logit_bias)
        row[ids] += amounts
    made = np.array(answer, np.int64)
    if sampling.repetition_penalty != 1.0:
        seen = np.concatenate((np.asarray(prompt, np.int64), made))
        _penalise_repetition(row, seen, sampling.repetition_penalty)
    if sampling.frequency_penalty or sampling.presence_penalty:
        ids, counts = np.unique(made, return_counts=True)
        amounts = sampling.frequency_penalty * counts + sampling.presence_penalty
        row[ids] -= amounts.astype(np.float32)
    return row


def _penalise_repetition(row: Logits, ids: Ids, penalty: float) -> None:
    """An id that is there twice is written twice with the same value, so it counts once."""
    logits = row[ids]
    factor = np.float32(penalty)
    row[ids] = np.where(logits > 0, logits / factor, logits * factor)


@lru_cache(maxsize=256)
def _arrays(bias: Biases) -> tuple[Ids, Logits]:
    ids, amounts = zip(*bias, strict=True)
    return np.array(ids, np.int64), np.array(amounts, np.float32)
