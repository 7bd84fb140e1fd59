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

from penstock.engine.memory import HOST, Memory
from penstock.engine.model import Model
from penstock.engine.shortlist import DOUBT, IDS, VALUES, Shortlist
from penstock.engine.signature import ElementType
from penstock.engine.slots import Slots
from penstock.engine.spec import Logits


class InPlaceBatch:
    """A `Batch`; see there. KV and logits stay where `slots.memory` has them."""

    def __init__(self, model: Model, slots: Slots) -> None:
        rows, vocab = len(slots.lengths), model.spec.vocab_size
        tokens = model.signature.tokens
        self._session = model.session
        self._signature = model.signature
        self._last_only = model.layout.last_only
        self._vocab = vocab
        self._slots = slots
        self._memory = slots.memory
        self._ids = np.zeros((rows, 1), tokens["input_ids"])
        self._chunk_ids = np.zeros((1, slots.max_len), tokens["input_ids"])
        mask = tokens.get("attention_mask", np.dtype(np.int64))
        self._mask = np.zeros(rows * slots.max_len, mask)
        self._ones = np.ones((1, slots.max_len), mask)
        # Positions as an input of the graph, for the few that ask; and as numbers to compare with.
        self._at = np.zeros((rows, 1), tokens.get("position_ids", np.dtype(np.int64)))
        self._positions = np.arange(slots.max_len, dtype=self._at.dtype)
        kind = model.signature.logits_dtype
        self._logits = self._memory.zeros((rows, vocab), kind)
        self._chunk_logits: Any = None
        self._chunk_room = 0
        self._width = model.shortlist
        self._top_values = np.zeros((rows, 1, self._width), kind)
        self._top_ids = np.zeros((rows, 1, self._width), np.int64)
        self._doubt = np.zeros((rows, 1, 1), kind)
        self._steps: dict[int, ort.IOBinding] = {}
        self._chunks: dict[int, ort.IOBinding] = {}

    def step(self, token_ids: Sequence[int]) -> Logits:
        self._run(token_ids)
        return self._fetch(self._logits, 0, len(token_ids))

    def shortlist(self, token_ids: Sequence[int]) -> Shortlist | None:
        if not self._width:
            return None
        self._run(token_ids)
        rows = len(token_ids)
        return Shortlist(
            self._top_values[:rows, 0].astype(np.float32),
            self._top_ids[:rows, 0],
            self._doubt[:rows, 0, 0] == 0,
            lambda row: self._fetch(self._logits, row, 1)[0],
        )

    def _run(self, token_ids: Sequence[int]) -> None:
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
            self._bind_shortlist(binding, rows)
        # Bound anew for each run: a device is sent what they hold when they are bound.
        self._bind_tokens(
            binding,
            input_ids=self._ids[:rows],
            attention_mask=mask,
            position_ids=self._at[:rows],
        )
        self._session.run_with_iobinding(binding)
        lengths += 1

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
            self._bind_chunk_logits(binding, count)
        self._session.run_with_iobinding(binding, run_options)
        self._slots.lengths[row] = total
        last: Logits = (
            self._fetch(self._logits, row, 1)
            if self._last_only
            else self._fetch(self._chunk_logits, count - 1, 1)
        )[0]
        return last

    def _fetch(self, array: Any, first: int, count: int) -> Logits:  # noqa: ANN401
        """Rows of logits as float32, whatever the graph computes in."""
        return self._memory.rows(array, first, count).astype(np.float32, copy=False)

    def _bind_rows(self, first: int, rows: int) -> ort.IOBinding:
        binding, memory = self._session.io_binding(), self._memory
        for (past, present), buffer in zip(self._signature.kv, self._slots.buffers, strict=True):
            shape = (rows, *buffer.shape[1:])
            at = (memory, self._signature.kv_type, shape, memory.address(buffer, first))
            _bind(binding.bind_input, past, *at)
            _bind(binding.bind_output, present, *at)
        for name, values in self._signature.fixed.items():
            _bind_host(binding.bind_input, name, values)
        self._bind_logits(binding, self._logits, first, (rows, 1, self._vocab))
        return binding

    def _bind_chunk_logits(self, binding: ort.IOBinding, count: int) -> None:
        """Room for the logits of a whole chunk, of which the last ones are used."""
        if self._chunk_room < count:
            kind = self._signature.logits_dtype
            self._chunk_logits = self._memory.zeros((count, self._vocab), kind)
            self._chunk_room = count
        self._bind_logits(binding, self._chunk_logits, 0, (1, count, self._vocab))

    def _bind_logits(
        self,
        binding: ort.IOBinding,
        array: Any,  # noqa: ANN401
        first: int,
        shape: tuple[int, ...],
    ) -> None:
        at = self._memory.address(array, first)
        kind = self._signature.logits_dtype.type
        _bind(binding.bind_output, "logits", self._memory, kind, shape, at)

    def _bind_shortlist(self, binding: ort.IOBinding, rows: int) -> None:
        if self._width:
            _bind_host(binding.bind_output, VALUES, self._top_values[:rows])
            _bind_host(binding.bind_output, IDS, self._top_ids[:rows])
            _bind_host(binding.bind_output, DOUBT, self._doubt[:rows])

    def _bind_tokens(self, binding: ort.IOBinding, **arrays: npt.NDArray[Any]) -> None:
        for name, array in arrays.items():
            if name in self._signature.tokens:
                _bind_host(binding.bind_input, name, array)


def _bind_host(bind: Any, name: str, array: npt.NDArray[Any]) -> None:  # noqa: ANN401
    _bind(bind, name, HOST, array.dtype.type, array.shape, array.ctypes.data)


def _bind(
    bind: Any,  # noqa: ANN401
    name: str,
    memory: Memory,
    kind: ElementType,
    shape: tuple[int, ...],
    address: int,
) -> None:
    bind(name, memory.name, 0, kind, list(shape), address)
