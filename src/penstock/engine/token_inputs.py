"""What a run is told of its tokens, in memory that stays where it is.

`IOBinding` is given addresses, and numbers are put there before each run. Only what changes its
shape from run to run is bound anew: a mask, for graphs that ask for one. `LASTS` and `LONGEST`
say the same in four bytes a row instead of eight for each row and position; `device_graph.py` lets
graphs ask for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.engine.memory import HOST, Memory
from penstock.engine.signature import LASTS, LONGEST, ElementType

Integers = npt.NDArray[Any]


class TokenInputs:
    """Room for a step of all of `rows`, and for a chunk of `max_len` tokens of one.

    `tokens` are the graph's inputs of this kind, with their types. `bind_input` keeps no reference,
    so this must live for as long as a session may read what it has bound.
    """

    def __init__(
        self, tokens: Mapping[str, np.dtype[Any]], memory: Memory, *, rows: int, max_len: int
    ) -> None:
        self._tokens = tokens
        self._memory = memory
        self._max_len = max_len
        self._step = self._arrays((rows, 1))
        self._chunk = self._arrays((1, max_len))
        self._longest = np.zeros(1, np.int32)
        self._bound = np.full(1, max_len, np.int32)
        masked, kind = "attention_mask" in tokens, tokens.get("attention_mask")
        self._mask = np.zeros(rows * max_len if masked else 0, kind)
        self._ones = np.ones((1, max_len if masked else 0), kind)
        self._positions = np.arange(max_len)

    def _arrays(self, shape: tuple[int, int]) -> dict[str, Any]:
        """One for each input that is read where the model runs."""
        shapes = {"input_ids": shape, "position_ids": shape, LASTS: shape[:1]}
        return {
            name: self._memory.zeros(each, self._tokens[name])
            for name, each in shapes.items()
            if name in self._tokens
        }

    def bind_step(self, binding: ort.IOBinding, rows: int) -> None:
        """Tell where a step of the first `rows` finds its numbers."""
        shapes = {"input_ids": [rows, 1], "position_ids": [rows, 1], LASTS: [rows]}
        self._bind(binding, self._step, shapes)

    def bind_any_length(self, binding: ort.IOBinding) -> None:
        """For a step that is replayed: no row is longer than a slot, and that is all it is told."""
        _bind_host(binding, LONGEST, self._bound)

    def put_step(self, ids: Integers, lengths: Integers) -> None:
        """The next token of each row, and how many are cached before it."""
        self._put(self._step, ids, lengths, lengths)

    def tell_lengths(self, binding: ort.IOBinding, lengths: Integers) -> None:
        """Bind what a step as long as its longest row is told of all rows together."""
        total = int(lengths.max()) + 1
        if LONGEST in self._tokens:
            self._longest[:] = total
            # Anew, so that it holds whether the number is read when it is bound or when it is run.
            _bind_host(binding, LONGEST, self._longest)
        if "attention_mask" in self._tokens:
            mask = self._mask[: len(lengths) * total].reshape(-1, total)
            # Right-padded ones tell the kernel each row's own length.
            np.less_equal(self._positions[:total], lengths[:, None], out=mask)
            _bind_host(binding, "attention_mask", mask)

    def chunk(self, binding: ort.IOBinding, ids: Integers, start: int) -> None:
        """Put and bind a prompt chunk of one row, that has `start` positions before it."""
        total = start + len(ids)
        self._put(self._chunk, ids, self._positions[start:total], np.array([total - 1]))
        shape = [1, len(ids)]
        self._bind(binding, self._chunk, {"input_ids": shape, "position_ids": shape, LASTS: [1]})
        if LONGEST in self._tokens:
            self._longest[:] = total
            _bind_host(binding, LONGEST, self._longest)
        if "attention_mask" in self._tokens:
            _bind_host(binding, "attention_mask", self._ones[:, :total])

    def _put(
        self, arrays: Mapping[str, Any], ids: Integers, positions: Integers, lasts: Integers
    ) -> None:
        numbers = {"input_ids": ids, "position_ids": positions, LASTS: lasts}
        for name, array in arrays.items():
            self._memory.put(array, numbers[name].astype(array.dtype, copy=False))

    def _bind(
        self, binding: ort.IOBinding, arrays: Mapping[str, Any], shapes: Mapping[str, list[int]]
    ) -> None:
        for name, array in arrays.items():
            kind, address = self._tokens[name].type, self._memory.address(array, 0)
            bind(binding.bind_input, name, self._memory, kind, shapes[name], address)


def _bind_host(binding: ort.IOBinding, name: str, array: Integers) -> None:
    bind(
        binding.bind_input, name, HOST, array.dtype.type, list(array.shape), int(array.ctypes.data)
    )


def bind(
    how: Callable[..., None],
    name: str,
    memory: Memory,
    kind: ElementType,
    shape: list[int],
    address: int,
) -> None:
    """`how` is `bind_input` or `bind_output`. Nothing is copied that lies where it is read."""
    how(name, memory.name, 0, kind, shape, address)
