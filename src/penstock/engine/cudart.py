"""The CUDA runtime: the eight functions of it that moving KV takes.

onnxruntime's Python binding copies whole tensors only, and what is moved here are parts of rows.
Its CUDA provider has loaded this library already, so nothing is installed for it.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

_OUT_OF_MEMORY = 2
_ANY_DIRECTION = 4
"""cudaMemcpyDefault: addresses tell which side is the device."""

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_FUNCTIONS = {
    "cudaMalloc": (ctypes.POINTER(_POINTER), _SIZE),
    "cudaMallocHost": (ctypes.POINTER(_POINTER), _SIZE),
    "cudaFree": (_POINTER,),
    "cudaMemset": (_POINTER, _INT, _SIZE),
    "cudaMemcpy2D": (_POINTER, _SIZE, _POINTER, _SIZE, _SIZE, _SIZE, _INT),
    "cudaStreamSynchronize": (_POINTER,),
    "cudaMemGetInfo": (ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)),
}


class CudartError(RuntimeError):
    """The CUDA runtime refused; the message is its own."""


class Cudart:
    """Calls that have taken effect when they return, on the first device that is visible."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401
        self._library = library
        for name, types in _FUNCTIONS.items():
            getattr(library, name).argtypes = types
        library.cudaGetErrorString.restype = ctypes.c_char_p

    @classmethod
    def load(cls) -> Cudart:
        """The library that onnxruntime was built for. Raises `OSError`."""
        major = str(ort.cuda_version).partition(".")[0]
        windows = sys.platform == "win32"
        return cls(ctypes.CDLL(f"cudart64_{major}.dll" if windows else f"libcudart.so.{major}"))

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """The address of `size` zeroed bytes on the device. Raises `MemoryError`."""
        address = self._new("cudaMalloc", size)
        self._call("cudaMemset", address, 0, size)
        self.settle()
        return address

    def release(self, address: int) -> None:
        self._call("cudaFree", address)

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        """Host memory that the device copies to and from by itself; kept until the process ends."""
        address = self._new("cudaMallocHost", size)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def copy(self, to: tuple[int, int], source: tuple[int, int], width: int, height: int) -> None:
        """Copy `height` stretches of `width` bytes; `to` and `source` are (address, pitch).

        May return before a copy within the device is done: `settle` waits for it.
        """
        if width:
            self._call("cudaMemcpy2D", *to, *source, width, height, _ANY_DIRECTION)

    def settle(self) -> None:
        """Wait for all copies. The model's runs are on a stream of their own and would not."""
        self._call("cudaStreamSynchronize", None)

    def _new(self, function: str, size: int) -> int:
        address = ctypes.c_void_p()
        self._call(function, ctypes.byref(address), size)
        return address.value or 0

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            said = f"{name}: {self._library.cudaGetErrorString(code).decode()}"
            raise MemoryError(said) if code == _OUT_OF_MEMORY else CudartError(said)
