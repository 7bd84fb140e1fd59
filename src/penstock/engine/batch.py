"""One call of the model: a prompt chunk of one sequence, or one token of many.

Past and present are bound to the same memory by raw pointer, so the kernel writes KV in place.
`bind_input` keeps no reference: every array that is bound here is an attribute of `Batch`, alive
for as long as the session may read it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.engine.model import Model
from penstock.engine.slots import Slots

Logits = npt.NDArray[np.float32]


class Batch:
    """Binds the rows of `slots` to the session of `model`."""

    def __init__(self, model: Model, slots: Slots) -> None:
        rows, vocab = len(slots.lengths), model.spec.vocab_size
        self._session = model.session
        self._spec = model.spec
        self._slots = slots
        self._ids = np.zeros((rows, 1), np.int64)
        self._mask = np.zeros(rows * slots.max_len, np.int64)
        self._chunk_ids = np.zeros((1, slots.max_len), np.int64)
        self._ones = np.ones((1, slots.max_len), np.int64)
        self._positions = np.arange(slots.max_len)
        self._logits = np.zeros((rows, vocab), np.float32)
        self._steps: dict[int, ort.IOBinding] = {}
        self._chunks: dict[int, ort.IOBinding] = {}

    def step(self, token_ids: Sequence[int]) -> Logits:
        """One token for each row of the prefix `[0:len(token_ids)]`.

        Returns `[rows, vocab]`, a view that the next call overwrites.
        """
        rows = len(token_ids)
        lengths = self._slots.lengths[:rows]
        total = int(lengths.max()) + 1
        # Right-padded ones tell the kernel each row's own length.
        mask = self._mask[: rows * total].reshape(rows, total)
        np.less_equal(self._positions[:total], lengths[:, None], out=mask)
        self._ids[:rows, 0] = token_ids
        binding = self._steps.get(rows)
        if binding is None:
            binding = self._steps[rows] = self._bind_rows(0, rows)
            _bind(binding, "input_ids", self._ids[:rows])
        _bind(binding, "attention_mask", mask)
        self._session.run_with_iobinding(binding)
        lengths += 1
        return self._logits[:rows]

    def prefill(
        self,
        row: int,
        token_ids: npt.NDArray[np.int64],
        options: ort.RunOptions | None = None,
    ) -> Logits:
        """Append a prompt chunk `[tokens]` to one row; logits `[vocab]` after its last token."""
        count = len(token_ids)
        total = int(self._slots.lengths[row]) + count
        binding = self._chunks.get(row)
        if binding is None:
            binding = self._chunks[row] = self._bind_rows(row, 1)
        self._chunk_ids[0, :count] = token_ids
        _bind(binding, "input_ids", self._chunk_ids[:, :count])
        _bind(binding, "attention_mask", self._ones[:, :total])
        self._session.run_with_iobinding(binding, options)
        self._slots.lengths[row] = total
        last: Logits = self._logits[row]
        return last

    def _bind_rows(self, first: int, rows: int) -> ort.IOBinding:
        binding = self._session.io_binding()
        for (past, present), buffer in zip(self._spec.kv_names, self._slots.buffers, strict=True):
            part = buffer[first : first + rows]
            _bind(binding, past, part)
            _bind(binding, present, part, output=True)
        logits = self._logits[first : first + rows].reshape(rows, 1, -1)
        _bind(binding, "logits", logits, output=True)
        return binding


def _bind(
    binding: ort.IOBinding, name: str, array: npt.NDArray[np.generic], *, output: bool = False
) -> None:
    bind = binding.bind_output if output else binding.bind_input
    bind(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
