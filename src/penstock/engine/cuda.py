"""KV and logits in a GPU's memory."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.engine.cudart import Cudart
from penstock.engine.memory import Array


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class DeviceArray:
    """Memory on the device. `address` is no place that the host could look at."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def pitch(self) -> int:
        """Bytes from one head of a row to the next."""
        return self.row_bytes // self.shape[1]

    @property
    def column_bytes(self) -> int:
        """Bytes of one position of one head."""
        return self.pitch // self.shape[2]

    def at(self, row: int, position: int = 0) -> tuple[int, int]:
        """Address of a position in the first head of a row, and the pitch."""
        offset = row * self.row_bytes + position * self.column_bytes
        return self.address + offset, self.pitch


class CudaMemory:
    """A `Memory`; see there. What crosses the bus goes through pinned memory, which is reused."""

    name = "cuda"

    def __init__(self, cudart: Cudart) -> None:
        self._cudart = cudart
        self._pinned: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._spare = 0
        self._spare_bytes = 0

    def free_bytes(self) -> int:
        return self._cudart.free_bytes()

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
        kind = np.dtype(dtype)
        array = DeviceArray(self._cudart.allocate(math.prod(shape) * kind.itemsize), shape, kind)
        # At the end of the process the driver frees everything, and may be gone already.
        weakref.finalize(array, self._cudart.release, array.address).atexit = False
        return array

    def address(self, array: DeviceArray, row: int) -> int:
        return array.address + row * array.row_bytes

    def rows(self, array: DeviceArray, first: int, count: int) -> Array:
        size = count * array.row_bytes
        room = self._room(size)
        source = self.address(array, first), size
        self._cudart.copy((int(room.ctypes.data), size), source, size, 1)
        return room.view(array.dtype).reshape(count, *array.shape[1:]).copy()

    def put(self, array: DeviceArray, values: Array) -> None:
        size = values.nbytes
        self._room(size).view(values.dtype)[:] = values.reshape(-1)
        self._cudart.copy((array.address, size), (int(self._pinned.ctypes.data), size), size, 1)
        self._cudart.settle()

    def read(self, array: DeviceArray, row: int, start: int, stop: int) -> Array:
        heads, _, size = array.shape[1:]
        width = (stop - start) * array.column_bytes
        room = self._room(heads * width)
        self._cudart.copy((int(room.ctypes.data), width), array.at(row, start), width, heads)
        return room.view(array.dtype).reshape(heads, stop - start, size).copy()

    def write(self, array: DeviceArray, row: int, start: int, part: Array) -> None:
        heads, positions, _ = part.shape
        width = positions * array.column_bytes
        room = self._room(heads * width)
        room.view(array.dtype)[:] = part.reshape(-1)
        self._cudart.copy(array.at(row, start), (int(room.ctypes.data), width), width, heads)
        self._cudart.settle()

    def swap(self, arrays: Sequence[DeviceArray], left: int, right: int, positions: int) -> None:
        for array in arrays:
            width, heads = positions * array.column_bytes, array.shape[1]
            spare = self._spare_of(array.row_bytes), width
            self._cudart.copy(spare, array.at(left), width, heads)
            self._cudart.copy(array.at(left), array.at(right), width, heads)
            self._cudart.copy(array.at(right), spare, width, heads)
        self._cudart.settle()

    def _room(self, size: int) -> npt.NDArray[np.uint8]:
        if len(self._pinned) < size:
            # Powers of two, so that a sequence that grows asks for more only now and then.
            self._pinned = self._cudart.pinned(1 << (size - 1).bit_length())
        return self._pinned[:size]

    def _spare_of(self, size: int) -> int:
        """A row's room on the device."""
        if self._spare_bytes < size:
            self._spare, self._spare_bytes = self._cudart.allocate(size), size
        return self._spare
