"""Which device a model runs on: CUDA where it really works, else the CPU, and a line says why."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from penstock.engine.cuda_lack import NO_DRIVER, NOT_BUILT, Lack, explain
from penstock.engine.folder import ModelFolder
from penstock.engine.model import CudaError, Model, ModelError, load_model
from penstock.engine.session import CUDA, providers
from penstock.models import embedded_model

Device = Literal["auto", "cpu", "cuda"]

PROBE = """
import sys
import onnxruntime
onnxruntime.preload_dlls()
session = onnxruntime.InferenceSession(sys.argv[2], providers=[sys.argv[1]], enable_fallback=0)
sys.exit(sys.argv[1] not in session.get_providers())
"""
PATIENCE_S = 60.0


class Opener:
    """Opens models on `device`. `report` is told, once for each reason, why it is not CUDA.

    Raises `ModelError` where CUDA is asked for and cannot be there.
    """

    def __init__(
        self,
        device: Device,
        threads: int,
        report: Callable[[str], None],
        *,
        capture_rows: int = 0,
    ) -> None:
        self._device = device
        self._capture_rows = capture_rows
        self._threads = threads
        self._report = report
        self._lack = None if device == "cpu" else lack_of_cuda()
        if self._lack and device == "cuda":
            raise ModelError(f"device cuda: {self._lack}, or start with --device cpu")
        self._told = False

    def open(self, name: str, folder: Path) -> Model:
        """Raises `ModelError`."""
        if self._device == "cpu" or self._lack:
            model = load_model(folder, threads=self._threads)
            self._tell()
            return model
        try:
            return load_model(
                folder, device="cuda", threads=self._threads, capture_rows=self._capture_rows
            )
        except CudaError as error:
            lack = error.lack or why_not(CUDA) or error.otherwise
            if self._device == "cuda":
                raise ModelError(f"device cuda: {lack}, or start with --device cpu") from None
            self._report(f"{name} runs on the CPU: {lack}")
        return load_model(folder, threads=self._threads)

    def _tell(self) -> None:
        """Behind the first model that opens: an error stands alone."""
        if self._lack and not self._told:
            self._report(f"running on the CPU: {self._lack.what} (`penstock doctor` tells more)")
        self._told = True


def lack_of_cuda() -> Lack | None:
    """What is known to be missing without an attempt, which takes seconds."""
    if CUDA not in providers():
        return NOT_BUILT
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return NO_DRIVER
    return None


def why_not(provider: str, graph: Path | None = None) -> Lack | None:
    """Why no session gets `provider`; None where one does.

    Tried in another process: onnxruntime falls back to the CPU without an error, and what it
    lacked stands only in what its library writes to the terminal.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, provider, str(graph or _smallest_graph())],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Lack(
            f"it did not open within {PATIENCE_S:.0f} s", "`nvidia-smi` tells whether the GPU works"
        )
    return None if done.returncode == 0 else explain(done.stderr)


def _smallest_graph() -> Path:
    return ModelFolder.locate(embedded_model()).graph
