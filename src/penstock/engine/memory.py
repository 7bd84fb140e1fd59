"""Where KV and logits lie and how they are moved: the seam between the engine and a device.

An array belongs to the memory that made it, and only that memory looks into it. What onnxruntime
gets to see is an address. `HostMemory` is numpy; `CudaMemory` is beside it in `cuda.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Memory(Protocol):
    """Arrays of `[rows, …]`; those of KV are `[rows, kv_heads, positions, head_dim]`.

    Whatever a call moves has arrived when it returns.
    """

    @property
    def name(self) -> str:
        """What `IOBinding` calls this memory."""
        ...

    def free_bytes(self) -> int | None:
        """What can still be taken; None where that is for the operating system to say."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:  # noqa: ANN401
        """A new array, freed with its last reference. Raises `MemoryError`."""
        ...

    def address(self, array: Any, row: int) -> int:  # noqa: ANN401
        """Where a row begins."""
        ...

    def rows(self, array: Any, first: int, count: int) -> Array:  # noqa: ANN401
        """Some rows as the host sees them: a view, or a copy where it cannot look."""
        ...

    def put(self, array: Any, values: Array) -> None:  # noqa: ANN401
        """Write `values`, of the array's type, over the beginning of it."""
        ...

    def read(self, array: Any, row: int, start: int, stop: int) -> Array:  # noqa: ANN401
        """A copy on the host of the positions `start` to `stop` of a row of KV."""
        ...

    def write(self, array: Any, row: int, start: int, part: Array) -> None:  # noqa: ANN401
        """Put `part`, as `read` gives it, into a row of KV from position `start` on."""
        ...

    def swap(self, arrays: Sequence[Any], left: int, right: int, positions: int) -> None:
        """Exchange the first positions of two rows, in each of the arrays."""
        ...


class HostMemory:
    """Numpy arrays."""

    name = "cpu"

    def free_bytes(self) -> None:
        return None

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        # Zeroed pages are not touched before use, so idle slots cost address space only.
        return np.zeros(shape, dtype)

    def address(self, array: Array, row: int) -> int:
        return int(array.ctypes.data) + row * array.strides[0]

    def rows(self, array: Array, first: int, count: int) -> Array:
        return array[first : first + count]

    def put(self, array: Array, values: Array) -> None:
        array.reshape(-1)[: values.size] = values.reshape(-1)

    def read(self, array: Array, row: int, start: int, stop: int) -> Array:
        return array[row, :, start:stop].copy()

    def write(self, array: Array, row: int, start: int, part: Array) -> None:
        array[row, :, start : start + part.shape[1]] = part

    def swap(self, arrays: Sequence[Array], left: int, right: int, positions: int) -> None:
        for array in arrays:
            kept = array[left, :, :positions].copy()
            array[left, :, :positions] = array[right, :, :positions]
            array[right, :, :positions] = kept


HOST = HostMemory()
