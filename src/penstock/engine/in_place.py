"""Steps of a graph that writes its cache in place.

Past and present are bound to the same memory by raw pointer, so the kernel writes KV where it lies.
`bind_input` keeps no reference: every array that is bound here is an attribute, alive for as long
as the session may read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.engine.model import Model
from penstock.engine.slots import Slots
from penstock.engine.spec import Logits


class InPlaceBatch:
    """A `Batch`; see there."""

    def __init__(self, model: Model, slots: Slots) -> None:
        rows, vocab = len(slots.lengths), model.spec.vocab_size
        tokens = model.signature.tokens
        self._session = model.session
        self._signature = model.signature
        self._last_only = model.layout.last_only
        self._vocab = vocab
        self._slots = slots
        self._ids = np.zeros((rows, 1), tokens["input_ids"])
        self._chunk_ids = np.zeros((1, slots.max_len), tokens["input_ids"])
        mask = tokens.get("attention_mask", np.dtype(np.int64))
        self._mask = np.zeros(rows * slots.max_len, mask)
        self._ones = np.ones((1, slots.max_len), mask)
        # Positions as an input of the graph, for the few that ask; and as numbers to compare with.
        self._at = np.zeros((rows, 1), tokens.get("position_ids", np.dtype(np.int64)))
        self._positions = np.arange(slots.max_len, dtype=self._at.dtype)
        self._logits = np.zeros((rows, vocab), np.float32)
        # What the graph writes; the same memory where it writes what is handed out.
        narrow = model.signature.logits_dtype != self._logits.dtype
        self._written: npt.NDArray[Any] = (
            np.zeros((rows, vocab), model.signature.logits_dtype) if narrow else self._logits
        )
        self._all_logits = np.zeros(0, model.signature.logits_dtype)
        self._steps: dict[int, ort.IOBinding] = {}
        self._chunks: dict[int, ort.IOBinding] = {}

    def step(self, token_ids: Sequence[int]) -> Logits:
        rows = len(token_ids)
        lengths = self._slots.lengths[:rows]
        total = int(lengths.max()) + 1
        # Right-padded ones tell the kernel each row's own length.
        mask = self._mask[: rows * total].reshape(rows, total)
        np.less_equal(self._positions[:total], lengths[:, None], out=mask)
        self._ids[:rows, 0] = token_ids
        self._at[:rows, 0] = lengths
        binding = self._steps.get(rows)
        if binding is None:
            binding = self._steps[rows] = self._bind_rows(0, rows)
            self._bind_tokens(binding, input_ids=self._ids[:rows], position_ids=self._at[:rows])
        self._bind_tokens(binding, attention_mask=mask)
        self._session.run_with_iobinding(binding)
        lengths += 1
        return self._widened(0, rows)

    def prefill(
        self,
        row: int,
        token_ids: npt.NDArray[np.int64],
        run_options: ort.RunOptions | None = None,
    ) -> Logits:
        count, length = len(token_ids), int(self._slots.lengths[row])
        total = length + count
        binding = self._chunks.get(row)
        if binding is None:
            binding = self._chunks[row] = self._bind_rows(row, 1)
        self._chunk_ids[0, :count] = token_ids
        self._bind_tokens(
            binding,
            input_ids=self._chunk_ids[:, :count],
            attention_mask=self._ones[:, :total],
            position_ids=self._positions[None, length:total],
        )
        if not self._last_only:
            self._bind_all_logits(binding, count)
        self._session.run_with_iobinding(binding, run_options)
        self._slots.lengths[row] = total
        if not self._last_only:
            self._written[row] = self._all_logits[: count * self._vocab][-self._vocab :]
        last: Logits = self._widened(row, 1)[0]
        return last

    def _widened(self, first: int, rows: int) -> Logits:
        """Logits as float32, whatever the graph computes in."""
        part = self._logits[first : first + rows]
        if self._written is not self._logits:
            np.copyto(part, self._written[first : first + rows])
        return part

    def _bind_rows(self, first: int, rows: int) -> ort.IOBinding:
        binding = self._session.io_binding()
        for (past, present), buffer in zip(self._signature.kv, self._slots.buffers, strict=True):
            part = buffer[first : first + rows]
            _bind(binding, past, part)
            _bind(binding, present, part, output=True)
        for name, values in self._signature.fixed.items():
            _bind(binding, name, values)
        logits = self._written[first : first + rows].reshape(rows, 1, -1)
        _bind(binding, "logits", logits, output=True)
        return binding

    def _bind_all_logits(self, binding: ort.IOBinding, count: int) -> None:
        """Room for the logits of a whole chunk, of which the last ones are used."""
        if self._all_logits.size < count * self._vocab:
            self._all_logits = np.zeros(count * self._vocab, self._all_logits.dtype)
        room = self._all_logits[: count * self._vocab].reshape(1, count, self._vocab)
        _bind(binding, "logits", room, output=True)

    def _bind_tokens(self, binding: ort.IOBinding, **arrays: npt.NDArray[Any]) -> None:
        for name, array in arrays.items():
            if name in self._signature.tokens:
                _bind(binding, name, array)


def _bind(
    binding: ort.IOBinding, name: str, array: npt.NDArray[np.generic], *, output: bool = False
) -> None:
    bind = binding.bind_output if output else binding.bind_input
    bind(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
