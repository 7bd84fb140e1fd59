"""The KV cache: one buffer a layer and kind, one row a slot, one sequence a row.

A step runs over a prefix of rows, so the rows that take part are first moved to the front. A row
that does not take part keeps its content, wherever it lies. Swapping costs by the tokens cached,
not by the space allocated (0.3 ms at 100 tokens of a 0.5 B model, where a dummy row in the batch
would cost 7.5 ms a step), hence always swap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.engine.memory import HOST, Memory
from penstock.engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Copy:
    """Some positions of one row: `[kv_heads, positions, head_dim]` for each buffer, on the host."""

    parts: tuple[npt.NDArray[np.floating], ...]

    @property
    def positions(self) -> int:
        return int(self.parts[0].shape[1])

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


class Slots:
    """Rows of KV by sequence key.

    `buffers[j]` is `[slots, kv_heads, max_len, head_dim]` in the model's type, key then value of
    each layer, an array of `memory`; `lengths[row]` counts the tokens cached in a row.
    """

    def __init__(self, spec: ModelSpec, *, slots: int, max_len: int, memory: Memory = HOST) -> None:
        shape = (slots, spec.kv_heads, max_len, spec.head_dim)
        self.memory = memory
        self.buffers: list[Any] = [memory.zeros(shape, spec.kv_dtype) for _ in spec.kv_names]
        self.lengths: npt.NDArray[np.int64] = np.zeros(slots, np.int64)
        self.max_len = max_len
        self._keys: list[int | None] = [None] * slots
        self._rows: dict[int, int] = {}
        self.swaps = 0

    def __repr__(self) -> str:
        return f"<Slots {len(self._rows)} of {len(self._keys)} in use>"

    def open(self, key: int) -> int:
        """Give `key` an empty row. Raises `ValueError` when none is free."""
        if len(self._rows) == len(self._keys):
            raise ValueError("no slot is free")
        row = self._keys.index(None)
        self._keys[row] = key
        self._rows[key] = row
        self.lengths[row] = 0
        return row

    def close(self, key: int) -> None:
        row = self._rows.pop(key)
        self._keys[row] = None
        self.lengths[row] = 0

    def holds(self, key: int) -> bool:
        return key in self._rows

    def row(self, key: int) -> int:
        return self._rows[key]

    def copy_out(self, key: int, start: int, stop: int) -> Copy:
        """The KV of positions `start` to `stop` of a row."""
        row = self._rows[key]
        read = self.memory.read
        return Copy(tuple(read(buffer, row, start, stop) for buffer in self.buffers))

    def append(self, key: int, copy: Copy) -> None:
        """Put `copy` behind what a row holds."""
        row = self._rows[key]
        start = int(self.lengths[row])
        for buffer, part in zip(self.buffers, copy.parts, strict=True):
            self.memory.write(buffer, row, start, part)
        self.lengths[row] = start + copy.positions

    def gather(self, keys: Sequence[int]) -> list[int]:
        """Move the rows of `keys` into the prefix `[0:len(keys)]`; the row of each, in order."""
        wanted = set(keys)
        holes = [row for row in range(len(keys)) if self._keys[row] not in wanted]
        far = [row for key in keys if (row := self._rows[key]) >= len(keys)]
        for hole, row in zip(holes, far, strict=True):
            self._swap(hole, row)
        return [self._rows[key] for key in keys]

    def _swap(self, left: int, right: int) -> None:
        length = int(max(self.lengths[left], self.lengths[right]))
        self.memory.swap(self.buffers, left, right, length)
        self.lengths[[left, right]] = self.lengths[[right, left]]
        self._keys[left], self._keys[right] = self._keys[right], self._keys[left]
        for row in (left, right):
            if (key := self._keys[row]) is not None:
                self._rows[key] = row
        self.swaps += 1
