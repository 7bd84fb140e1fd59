"""One call of the model: a prompt chunk of one sequence, or one token of many.

There are two ways to do it, one for each way in which a graph keeps its cache. Both read and write
the rows of `Slots`, so what happens to rows between calls is the same for either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.engine.concat import ConcatBatch
from penstock.engine.in_place import InPlaceBatch
from penstock.engine.model import Model
from penstock.engine.shortlist import Shortlist
from penstock.engine.slots import Slots
from penstock.engine.spec import Logits

__all__ = ["Batch", "Logits", "make_batch"]


class Batch(Protocol):
    """Runs a model over the rows of a `Slots`, and advances their lengths."""

    @property
    def captured_rows(self) -> tuple[int, ...]:
        """The sizes of those steps that are captured once and replayed."""
        ...

    def step(self, token_ids: Sequence[int]) -> Logits:
        """One token for each row of the prefix `[0:len(token_ids)]`.

        Returns `[rows, vocab]`, a view that the next call overwrites.
        """
        ...

    def shortlist(self, token_ids: Sequence[int]) -> Shortlist | None:
        """The same, with the likeliest tokens of each row in place of all logits.

        None, and nothing is run, where the graph has no such outputs.
        """
        ...

    def prefill(
        self,
        row: int,
        token_ids: npt.NDArray[np.int64],
        run_options: ort.RunOptions | None = None,
    ) -> Logits:
        """Append a prompt chunk `[tokens]` to one row; logits `[vocab]` after its last token.

        Raises, and leaves the row as long as it was, when `run_options.terminate` is set meanwhile.
        """
        ...


def make_batch(model: Model, slots: Slots) -> InPlaceBatch | ConcatBatch:
    """The batch that fits the way in which `model` keeps its cache."""
    return InPlaceBatch(model, slots) if model.layout.in_place else ConcatBatch(model, slots)
