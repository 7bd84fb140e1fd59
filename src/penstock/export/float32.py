"""The plain precisions: every weight and every product in float32, float16 or bfloat16."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from penstock.export.graph import Graph
from penstock.export.precision import FLOAT32, fit, last_position


class Float32:
    """A Precision; see there for the shapes."""

    dtype: np.dtype[Any] = FLOAT32
    logits: np.dtype[Any] = FLOAT32

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def embed(self, table: NDArray[np.float32]) -> str:
        stored = self._graph.constant("embedding", fit("embedding", table, self.dtype))
        return self._graph.node("Gather", [stored, "input_ids"], "embedded")

    def project(self, name: str, rows: str, weights: NDArray[np.float32]) -> str:
        stored = self._graph.constant(f"{name}.weight", fit(name, weights, self.dtype).T)
        return self._graph.node("MatMul", [rows, stored], name)

    def head(self, hidden: str, weights: NDArray[np.float32], *, tied: bool) -> str:
        return self._head("logits", hidden, weights, tied=tied)

    def _head(self, name: str, hidden: str, weights: NDArray[np.float32], *, tied: bool) -> str:
        rows = last_position(self._graph, hidden)
        if not tied:
            return self.project(name, rows, weights)
        # Folded into a packed weight when the session loads, so the file holds one copy.
        columns = self._graph.node("Transpose", ["embedding"], "embedding.columns", perm=[1, 0])
        return self._graph.node("MatMul", [rows, columns], name)


class Float16(Float32):
    """For GPUs: products are summed in float32 there, and attention is offered in 16 bits only."""

    dtype = np.dtype(np.float16)
    logits = np.dtype(np.float16)


class BFloat16(Float32):
    """For GPUs, with the range of float32, in which most checkpoints were trained.

    Logits leave as float32, which holds each of them exactly: numpy has no bfloat16, and whoever
    runs the graph only moves KV but reads logits.
    """

    dtype = np.dtype(ml_dtypes.bfloat16)

    def head(self, hidden: str, weights: NDArray[np.float32], *, tied: bool) -> str:
        narrow = self._head("logits.bfloat16", hidden, weights, tied=tied)
        return self._graph.node("Cast", [narrow], "logits", to=TensorProto.FLOAT)
