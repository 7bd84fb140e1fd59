"""Steps of a graph that grows its cache: past of n in, present of n + 1 out.

The rows' pasts are copied out of their slots, right-padded to the longest, and the new columns are
copied back. That costs time in proportion to all that is cached, where a graph that writes in
place costs none. Every row keeps its true positions, so padding is masked and never counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.engine.model import Model
from penstock.engine.slots import Slots
from penstock.engine.spec import Logits

Integers = npt.NDArray[np.int64]


class ConcatBatch:
    """A `Batch`; see there."""

    captured_rows: tuple[int, ...] = ()

    def __init__(self, model: Model, slots: Slots) -> None:
        self._session = model.session
        self._signature = model.signature
        self._slots = slots
        self._logits = np.zeros((len(slots.lengths), model.spec.vocab_size), np.float32)
        self._outputs = ["logits", *(present for _, present in model.signature.kv)]

    def step(self, token_ids: Sequence[int]) -> Logits:
        count = len(token_ids)
        ids = np.array(token_ids, np.int64)[:, None]
        for rows in self._runs(count):
            self._logits[rows] = self._run(rows, ids[rows])
        self._slots.lengths[:count] += 1
        return self._logits[:count]

    def shortlist(self, token_ids: Sequence[int]) -> None:
        """Such graphs run on the CPU, where all logits are at hand."""

    def prefill(
        self,
        row: int,
        token_ids: npt.NDArray[np.int64],
        run_options: ort.RunOptions | None = None,
    ) -> Logits:
        self._logits[row] = self._run(np.array([row]), token_ids[None], run_options)[0]
        self._slots.lengths[row] += len(token_ids)
        last: Logits = self._logits[row]
        return last

    def _runs(self, count: int) -> Iterator[Integers]:
        """The rows that can go together: all, or those of equal length where none may be padded."""
        if self._signature.can_pad:
            yield np.arange(count)
            return
        lengths = self._slots.lengths[:count]
        for length in np.unique(lengths):
            yield np.flatnonzero(lengths == length)

    def _run(
        self, rows: Integers, ids: Integers, run_options: ort.RunOptions | None = None
    ) -> Logits:
        """Logits `[rows, vocab]` after the last of `ids` `[rows, tokens]`; columns are stored."""
        lengths, count = self._slots.lengths[rows], ids.shape[1]
        longest = int(lengths.max())
        positions = lengths[:, None] + np.arange(count)
        mask = np.ones((len(rows), longest + count), np.int64)
        padding = np.arange(longest) >= lengths[:, None]
        mask[:, :longest] = ~padding
        feed = self._signature.feed(ids, mask, positions)
        for (past, _), buffer in zip(self._signature.kv, self._slots.buffers, strict=True):
            feed[past] = np.ascontiguousarray(buffer[rows, :, :longest])
            # A weight of 0 does not silence the NaN that a former occupant of the row left.
            feed[past].swapaxes(1, 2)[padding] = 0
        logits, *presents = self._session.run(self._outputs, feed, run_options)
        for buffer, present in zip(self._slots.buffers, presents, strict=True):
            # Two index arrays around a slice put the columns second.
            buffer[rows[:, None], :, positions] = present[:, :, longest:].swapaxes(1, 2)
        last: Logits = logits[:, -1]
        return last
