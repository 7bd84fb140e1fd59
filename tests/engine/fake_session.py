"""onnxruntime's session on a device that is the host's memory: what it promises, and no more.

Its CPU kernels compute. What is bound from the host is read when it is bound and not again, as
onnxruntime sends it to a device. A run that is captured keeps to what NVIDIA and onnxruntime ask
of one, and to what they do: everything lies on the device, what the CPU reads is what it was,
nothing is told anew, and a graph belongs to the thread that captured it.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import replace
from threading import get_ident
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.engine.captures import graph_ids
from penstock.engine.device_graph import DeviceGraph
from penstock.engine.model import Model
from penstock.engine.signature import LONGEST, read_signature

from .fake_cudart import FakeCudaMemory, FakeCudart

Bound = dict[str, tuple[int, tuple[int, ...]]]
"""Address and shape by name."""


class FakeBinding:
    """Tells the real one where things are; a copy, where they are on the host."""

    def __init__(self, real: ort.IOBinding, device: FakeCudart) -> None:
        self.real = real
        self.inputs: Bound = {}
        self.outputs: Bound = {}
        self._device = device
        self._sent: dict[str, Any] = {}

    def bind_input(
        self,
        name: str,
        device: str,
        number: int,
        kind: type | int,
        shape: list[int],
        address: int,
    ) -> None:
        self.inputs[name] = address, tuple(shape)
        if not self._device.holds(address):
            assert not isinstance(kind, int)
            size = math.prod(shape) * np.dtype(kind).itemsize
            self._sent[name] = ctypes.create_string_buffer(ctypes.string_at(address, size), size)
            address = ctypes.addressof(self._sent[name])
        self.real.bind_input(name, device, number, kind, shape, address)

    def bind_cpu_input(self, name: str, array: npt.NDArray[Any]) -> None:
        address = int(array.ctypes.data)
        self.bind_input(name, "cpu", 0, array.dtype.type, list(array.shape), address)

    def bind_output(
        self,
        name: str,
        device: str,
        number: int,
        kind: type | int,
        shape: list[int],
        address: int,
    ) -> None:
        self.outputs[name] = address, tuple(shape)
        self.real.bind_output(name, device, number, kind, shape, address)

    def on_host(self) -> set[str]:
        edges = {**self.inputs, **self.outputs}
        return {name for name, (at, _) in edges.items() if not self._device.holds(at)}


class FakeSession:
    """`captured` holds, by thread and id, what each graph does."""

    def __init__(self, model: bytes, device: FakeCudart, *, captures: bool) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.real = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.captured: dict[tuple[int, int], tuple[FakeBinding, Bound, Bound]] = {}
        self.runs: list[int] = []
        self._device = device
        self._captures = captures

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self.real.io_binding(), self._device)

    def run_with_iobinding(
        self, binding: FakeBinding, options: ort.RunOptions | None = None
    ) -> None:
        # Copies are asked for on one stream and the model runs on another.
        assert not self._device.unsettled
        graph_id = -1
        if self._captures:
            assert options is not None, "a run that is not told would be graph 0"
            graph_id = int(options.get_run_config_entry("gpu_graph_id"))
        self.runs.append(graph_id)
        if graph_id == -1:
            self.real.run_with_iobinding(binding.real, options)
        elif (get_ident(), graph_id) not in self.captured:
            self._capture(graph_id, binding)
        else:
            self._replay(graph_id, binding)

    def _capture(self, graph_id: int, binding: FakeBinding) -> None:
        assert graph_id > 0, "0 is what stands for no id"
        if left := binding.on_host() - {LONGEST}:
            raise RuntimeError(f"captured with {left} on the host")
        told = binding, dict(binding.inputs), dict(binding.outputs)
        self.captured[get_ident(), graph_id] = told
        # As usual, to find what memory it takes; then the capture, which is replayed at once.
        for _ in range(2):
            self.real.run_with_iobinding(binding.real)

    def _replay(self, graph_id: int, binding: FakeBinding) -> None:
        captured, inputs, outputs = self.captured[get_ident(), graph_id]
        if (inputs, outputs) != (binding.inputs, binding.outputs):
            raise RuntimeError(f"graph {graph_id} was captured with other addresses or shapes")
        self.real.run_with_iobinding(captured.real)

    def get_providers(self) -> list[str]:
        return list(self.real.get_providers())

    def get_inputs(self) -> Any:  # noqa: ANN401
        return self.real.get_inputs()

    def get_outputs(self) -> Any:  # noqa: ANN401
        return self.real.get_outputs()


def on_device(model: Model, *, capture_rows: int = 0) -> Model:
    """The model as CUDA gets it, on a device that is the host's memory."""
    graph, memory = DeviceGraph(model.file), FakeCudaMemory()
    session = FakeSession(graph.ready(), memory.library, captures=capture_rows > 0)
    return replace(
        model,
        session=session,
        signature=read_signature(session, str(model.file), on_cuda=True),
        layout=graph.layout,
        memory=memory,
        shortlist=graph.width,
        capture_rows=capture_rows,
        graph_ids=graph_ids(),
    )
