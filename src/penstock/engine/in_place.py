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

from penstock.engine.captures import NOT_CAPTURED, Capture, Captures
from penstock.engine.memory import HOST
from penstock.engine.model import Model
from penstock.engine.shortlist import DOUBT, IDS, VALUES, Shortlist
from penstock.engine.slots import Slots
from penstock.engine.spec import Logits
from penstock.engine.token_inputs import TokenInputs, bind

_GRAPH_ID = "gpu_graph_id"


class InPlaceBatch:
    """A `Batch`; see there. KV, logits and token ids stay where `slots.memory` has them."""

    def __init__(self, model: Model, slots: Slots) -> None:
        rows, vocab = len(slots.lengths), model.spec.vocab_size
        self._session = model.session
        self._signature = model.signature
        self._last_only = model.layout.last_only
        self._vocab = vocab
        self._slots = slots
        self._memory = slots.memory
        self._inputs = TokenInputs(
            model.signature.tokens, slots.memory, rows=rows, max_len=slots.max_len
        )
        self._ids = np.zeros(rows, np.int64)
        self._logits = self._memory.zeros((rows, vocab), model.signature.logits_dtype)
        self._chunk_logits: Any = None
        self._chunk_room = 0
        self._width = model.shortlist
        self._few = {
            name: self._memory.zeros((rows, 1, width), kind)
            for name, width, kind in (
                (VALUES, self._width, model.signature.logits_dtype),
                (IDS, self._width, np.dtype(np.int64)),
                (DOUBT, 1, model.signature.logits_dtype),
            )
            if self._width
        }
        self._captures = Captures(
            limit=model.capture_rows, slots=rows, max_len=slots.max_len, ids=model.graph_ids
        )
        self._steps: dict[int, ort.IOBinding] = {}
        self._captured: dict[int, tuple[ort.IOBinding, ort.RunOptions | None]] = {}
        self._chunks: dict[int, ort.IOBinding] = {}
        self._as_usual = self._told(None, NOT_CAPTURED)

    @property
    def captured_rows(self) -> tuple[int, ...]:
        return tuple(each.rows for each in self._captures.all)

    def step(self, token_ids: Sequence[int]) -> Logits:
        self._run(token_ids)
        return self._fetch(self._logits, 0, len(token_ids))

    def shortlist(self, token_ids: Sequence[int]) -> Shortlist | None:
        if not self._width:
            return None
        self._run(token_ids)
        rows = len(token_ids)
        values, ids, doubt = (self._memory.rows(each, 0, rows) for each in self._few.values())
        return Shortlist(
            values[:, 0].astype(np.float32),
            ids[:, 0],
            doubt[:, 0, 0] == 0,
            lambda row: self._fetch(self._logits, row, 1)[0],
        )

    def _run(self, token_ids: Sequence[int]) -> None:
        rows = len(token_ids)
        capture = self._captures.of(rows, self._slots.lengths)
        size = capture.rows if capture else rows
        self._ids[:rows] = token_ids
        self._ids[rows:size] = 0
        lengths = self._slots.lengths[:size]
        self._inputs.put_step(self._ids[:size], lengths)
        if capture:
            self._session.run_with_iobinding(*self._captured_step(capture))
        else:
            binding = self._step(rows)
            self._inputs.tell_lengths(binding, lengths)
            self._session.run_with_iobinding(binding, self._as_usual)
        lengths[:rows] += 1

    def _step(self, rows: int) -> ort.IOBinding:
        if rows not in self._steps:
            self._steps[rows] = self._bind_step(rows)
        return self._steps[rows]

    def _captured_step(self, capture: Capture) -> tuple[ort.IOBinding, ort.RunOptions | None]:
        if capture.rows not in self._captured:
            binding = self._bind_step(capture.rows)
            self._inputs.bind_any_length(binding)
            self._captured[capture.rows] = binding, self._told(None, capture.graph_id)
        return self._captured[capture.rows]

    def _told(self, options: ort.RunOptions | None, graph_id: int) -> ort.RunOptions | None:
        """`options`, saying which graph a run is to be where the session captures any."""
        if self._captures.all:
            options = options or ort.RunOptions()
            options.add_run_config_entry(_GRAPH_ID, str(graph_id))
        return options

    def prefill(
        self,
        row: int,
        token_ids: npt.NDArray[np.int64],
        run_options: ort.RunOptions | None = None,
    ) -> Logits:
        count, length = len(token_ids), int(self._slots.lengths[row])
        binding = self._chunks.get(row)
        if binding is None:
            binding = self._chunks[row] = self._bind_rows(row, 1)
        self._inputs.chunk(binding, token_ids, length)
        if not self._last_only:
            self._bind_chunk_logits(binding, count)
        self._session.run_with_iobinding(binding, self._told(run_options, NOT_CAPTURED))
        self._slots.lengths[row] = length + count
        last: Logits = (
            self._fetch(self._logits, row, 1)
            if self._last_only
            else self._fetch(self._chunk_logits, count - 1, 1)
        )[0]
        return last

    def _fetch(self, array: Any, first: int, count: int) -> Logits:  # noqa: ANN401
        """Rows of logits as float32, whatever the graph computes in."""
        return self._memory.rows(array, first, count).astype(np.float32, copy=False)

    def _bind_step(self, rows: int) -> ort.IOBinding:
        binding = self._bind_rows(0, rows)
        self._inputs.bind_step(binding, rows)
        for name, array in self._few.items():
            shape, kind = [rows, *array.shape[1:]], array.dtype.type
            at = self._memory.address(array, 0)
            bind(binding.bind_output, name, self._memory, kind, shape, at)
        return binding

    def _bind_rows(self, first: int, rows: int) -> ort.IOBinding:
        binding, memory = self._session.io_binding(), self._memory
        for (past, present), buffer in zip(self._signature.kv, self._slots.buffers, strict=True):
            shape = [rows, *buffer.shape[1:]]
            at = (memory, self._signature.kv_type, shape, memory.address(buffer, first))
            bind(binding.bind_input, past, *at)
            bind(binding.bind_output, present, *at)
        for name, values in self._signature.fixed.items():
            at = (HOST, values.dtype.type, list(values.shape), int(values.ctypes.data))
            bind(binding.bind_input, name, *at)
        self._bind_logits(binding, self._logits, first, [rows, 1, self._vocab])
        return binding

    def _bind_chunk_logits(self, binding: ort.IOBinding, count: int) -> None:
        """Room for the logits of a whole chunk, of which the last ones are used."""
        if self._chunk_room < count:
            kind = self._signature.logits_dtype
            self._chunk_logits = self._memory.zeros((count, self._vocab), kind)
            self._chunk_room = count
        self._bind_logits(binding, self._chunk_logits, 0, [1, count, self._vocab])

    def _bind_logits(
        self,
        binding: ort.IOBinding,
        array: Any,  # noqa: ANN401
        first: int,
        shape: list[int],
    ) -> None:
        at = self._memory.address(array, first)
        kind = self._signature.logits_dtype.type
        bind(binding.bind_output, "logits", self._memory, kind, shape, at)
