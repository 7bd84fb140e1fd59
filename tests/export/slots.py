"""Run an exported model the way an engine does: one buffer for past and present, in place."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def session(model: Path, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Slots:
    """A row of KV buffers per sequence; a step binds the prefix [0:batch] of all of them."""

    def __init__(self, running: ort.InferenceSession, slots: int, capacity: int) -> None:
        self._session = running
        self._names = [i.name for i in running.get_inputs() if i.name.startswith("past_")]
        _, heads, _, head_dim = running.get_inputs()[2].shape
        shape = (slots, heads, capacity, head_dim)
        narrow = running.get_inputs()[2].type == "tensor(float16)"
        self._dtype = np.float16 if narrow else np.float32
        # Poisoned, so that reading a place nobody wrote cannot go unnoticed.
        self._buffers = [np.full(shape, 1e4, self._dtype) for _ in self._names]
        self._vocab = running.get_outputs()[0].shape[2]
        self.lengths = np.zeros(slots, np.int64)

    def prefill(self, slot: int, tokens: list[int]) -> Floats:
        """Append `tokens` to one sequence; return the logits [vocab] after the last of them."""
        logits: Floats = self._run(slot, np.array([tokens], np.int64))[0]
        return logits

    def step(self, tokens: list[int]) -> Floats:
        """Append one token to each of the first len(tokens) slots; return logits [batch, vocab]."""
        return self._run(0, np.array(tokens, np.int64)[:, None])

    def _run(self, first: int, tokens: NDArray[np.int64]) -> Floats:
        batch, sequence = tokens.shape
        rows = slice(first, first + batch)
        self.lengths[rows] += sequence
        lengths = self.lengths[rows]
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        logits = np.empty((batch, 1, self._vocab), self._dtype)
        bound = self._session.io_binding()
        bound.bind_cpu_input("input_ids", tokens)
        bound.bind_cpu_input("attention_mask", mask)
        for name, buffer in zip(self._names, self._buffers, strict=True):
            self._share(bound, name, buffer[rows])
        bound.bind_output("logits", "cpu", 0, self._dtype, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(bound)
        rows_logits: Floats = logits[:, 0].astype(np.float32)
        return rows_logits

    def _share(self, bound: ort.IOBinding, name: str, part: NDArray[np.floating]) -> None:
        at = ("cpu", 0, self._dtype, part.shape, part.ctypes.data)
        bound.bind_input(name, *at)
        bound.bind_output(name.replace("past_key_values", "present"), *at)
