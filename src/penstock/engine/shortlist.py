"""The likeliest few of each row, so that the rest need not leave the device.

A graph on a GPU is given three more outputs (`shortlist_graph`). A request that draws from fewer
than those few gets, by these alone, the token that it would get by all logits; for any other, and
where one of the logits is no number, the whole row is fetched. So the token depends neither on the
way nor on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.engine.sampling import Draw, sample
from penstock.engine.spec import Logits
from penstock.requests import Prompt

VALUES, IDS, DOUBT = "shortlist.values", "shortlist.ids", "shortlist.doubt"
WIDTH = 64
"""Requests ask for a top_k of 20 to 50, where they ask for one; 64 and their ids are 640 bytes."""


@dataclass(frozen=True, slots=True)
class Shortlist:
    """`values` and `ids` are `[rows, width]`, likeliest first; of equals the lower id comes first.

    `sound[row]` says that all its logits are finite. `fetch(row)` gives them, `[vocab]`, until the
    next run.
    """

    values: Logits
    ids: npt.NDArray[np.int64]
    sound: npt.NDArray[np.bool_]
    fetch: Callable[[int], Logits]

    def suffices(self, row: int, prompt: Prompt) -> bool:
        """Whether the next token of `prompt` can be drawn without its other logits."""
        sampling, width = prompt.sampling, self.values.shape[1]
        if prompt.constraint is not None or prompt.logprobs is not None or sampling.adjusts:
            return False
        return bool(self.sound[row]) and (sampling.greedy or 0 < sampling.top_k < width)

    def draw(self, rows: Sequence[int], draws: Sequence[Draw]) -> list[int]:
        """One token id for each of `rows`, for which it suffices."""
        places = sample(self.values[list(rows)], draws)
        return [int(self.ids[row, place]) for row, place in zip(rows, places, strict=True)]

    def whole(self, rows: Sequence[int]) -> Logits:
        """The logits `[len(rows), vocab]` of some rows."""
        return np.stack([self.fetch(row) for row in rows])
