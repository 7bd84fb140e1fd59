"""How fast this machine reads memory: the floor under a decode step."""

from __future__ import annotations

import os
import time
from threading import Thread

import numpy as np
import numpy.typing as npt

BYTES = 1 << 30
"""In all; more than any cache that a virtual machine can call its own."""


def read_bytes_s(threads: int, repeats: int = 5) -> float:
    """Bytes a second, the best of `repeats`: dot products, which do nothing but wait for memory."""
    parts = np.array_split(np.ones(BYTES // 4, np.float32), threads)
    _read_all(parts)
    return BYTES / min(_read_all(parts) for _ in range(repeats))


def _read_all(parts: list[npt.NDArray[np.float32]]) -> float:
    threads = [Thread(target=_read, args=(part,)) for part in parts]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def _read(part: npt.NDArray[np.float32]) -> None:
    half = len(part) // 2
    np.dot(part[:half], part[half : 2 * half])


if __name__ == "__main__":
    cores = os.cpu_count() or 1
    for count in sorted({1, cores}):
        print(f"{count} threads: {read_bytes_s(count) / 1e9:.1f} GB/s")
