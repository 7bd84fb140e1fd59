"""Log probabilities of one row: of the token that was drawn, and of the likeliest.

They are of the model's distribution after bias and penalties, at temperature 1 and before top_k,
top_p and min_p: what a client asks them for is how sure the model was, and a temperature or a
truncation says nothing about that. So a greedy answer has them too, and they are finite.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from penstock.engine.adjust import Logits
from penstock.engine.candidates import largest

Scores: TypeAlias = tuple[float | None, tuple[tuple[int, float], ...]]

UNSCORED: Scores = (None, ())


def score(row: Logits, token_id: int, count: int) -> Scores:
    """Log probability of `token_id` under logits `[vocab]`, and those of the `count` likeliest."""
    top = row.max()
    level = float(top) + float(np.log(np.exp(row - top).sum(dtype=np.float64)))
    ids: list[int] = largest(row, count).tolist() if count else []
    return float(row[token_id]) - level, tuple((id_, float(row[id_]) - level) for id_ in ids)
