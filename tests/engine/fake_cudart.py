"""A CUDA runtime whose device is the host: addresses are real, and the only way to the data.

It keeps the promises of the real one and no more: copies are made by pitch, height and width, and
`cudaMalloc` gives what was there before. So wrong arithmetic shows in the data, and onnxruntime's
CPU kernels can be bound to what the engine takes for a device.
"""

from __future__ import annotations

import ctypes
from typing import Any

from penstock.engine.cuda import CudaMemory
from penstock.engine.cudart import Cudart

_P, _S, _I = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_PP, _SP = ctypes.POINTER(_P), ctypes.POINTER(_S)


class FakeCudart:
    """The library. `calls` counts what was called; `free` is all that it has left, in bytes."""

    def __init__(self, free: int = 1 << 40) -> None:
        self.free = free
        self.calls: dict[str, int] = {}
        self.blocks: dict[int, Any] = {}
        self.unsettled = 0
        self.bus_bytes = 0
        self.cudaMalloc = self._function(self._malloc, _PP, _S)
        self.cudaMallocHost = self._function(self._malloc_host, _PP, _S)
        self.cudaFree = self._function(self._free, _P)
        self.cudaMemset = self._function(self._memset, _P, _I, _S)
        self.cudaMemcpy2D = self._function(self._copy, _P, _S, _P, _S, _S, _S, _I)
        self.cudaStreamSynchronize = self._function(self._settle, _P)
        self.cudaMemGetInfo = self._function(self._info, _SP, _SP)
        self._text = ctypes.create_string_buffer(b"out of memory")
        self.cudaGetErrorString = ctypes.CFUNCTYPE(_P, _I)(
            lambda code: ctypes.addressof(self._text)
        )
        self.host: dict[int, Any] = {}

    def holds(self, address: int) -> bool:
        """Whether it is on the device."""
        return any(start <= address < start + len(b) for start, b in self.blocks.items())

    def _function(self, body: Any, *types: Any) -> Any:  # noqa: ANN401
        def call(*arguments: Any) -> int:  # noqa: ANN401
            name = body.__name__.strip("_")
            self.calls[name] = self.calls.get(name, 0) + 1
            return int(body(*arguments) or 0)

        return ctypes.CFUNCTYPE(_I, *types)(call)

    def _malloc(self, address: Any, size: int) -> int:  # noqa: ANN401
        if size > self.free:
            return 2
        block = ctypes.create_string_buffer(b"\xff" * max(size, 1), max(size, 1))
        address[0] = ctypes.addressof(block)
        self.blocks[ctypes.addressof(block)] = block
        self.free -= size
        return 0

    def _malloc_host(self, address: Any, size: int) -> None:  # noqa: ANN401
        block = ctypes.create_string_buffer(size)
        address[0] = ctypes.addressof(block)
        self.host[ctypes.addressof(block)] = block

    def _free(self, address: int) -> None:
        self.free += len(self.blocks.pop(address))

    def _memset(self, address: int, value: int, size: int) -> None:
        ctypes.memset(address, value, size)
        self.unsettled += 1

    def _copy(
        self, to: int, to_pitch: int, source: int, pitch: int, width: int, height: int, kind: int
    ) -> int:
        if kind != 4 or width > min(to_pitch, pitch):
            return 1
        for line in range(height):
            ctypes.memmove(to + line * to_pitch, source + line * pitch, width)
        # A copy to the host is there when the call returns.
        self.unsettled += not self._on_host(to)
        if self._on_host(to) or self._on_host(source):
            self.bus_bytes += width * height
        return 0

    def _on_host(self, address: int) -> bool:
        return any(start <= address < start + len(b) for start, b in self.host.items())

    def _settle(self, _: int | None) -> None:
        self.unsettled = 0

    def _info(self, free: Any, total: Any) -> None:  # noqa: ANN401
        free[0], total[0] = self.free, 1 << 41


class FakeCudaMemory(CudaMemory):
    """The engine's own `CudaMemory` over it; onnxruntime is told what its addresses really are."""

    name = "cpu"

    def __init__(self, library: FakeCudart | None = None) -> None:
        self.library = library or FakeCudart()
        super().__init__(Cudart(self.library))
