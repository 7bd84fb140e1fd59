"""int8 weights times int8 activations, each row of either with a scale of its own.

The activation's scale is taken per row while running. One scale for a whole tensor would be
cheaper to write, but then a neighbour that joins the batch would change everybody's logits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from penstock.export.graph import Graph
from penstock.export.precision import FLOAT32, last_position
from penstock.export.quantise import ACTIVATION_LEVELS, quantise_weights

_ZERO_POINT = 128
"""Activations are stored as uint8 around 128: uint8 times int8 is what the CPU kernels do best."""


class Int8Row:
    """A Precision; see there for the shapes."""

    dtype: np.dtype[Any] = FLOAT32
    logits: np.dtype[Any] = FLOAT32

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._quantised: dict[str, tuple[str, str]] = {}
        self._zero_point = graph.constant("zero_point", np.array(_ZERO_POINT, np.uint8))
        self._zero_points = self._spread_zero_point()

    def _spread_zero_point(self) -> str:
        """Repeat the zero point to [batch, sequence, 1], as QuantizeLinear demands."""
        graph = self._graph
        tokens = graph.node("Shape", ["input_ids"], "input_ids.shape")
        one = graph.constant("one", np.array([1], np.int64))
        shape = graph.node("Concat", [tokens, one], "rows.shape", axis=0)
        return graph.node("Expand", [self._zero_point, shape], "rows.zero_points")

    def embed(self, table: NDArray[np.float32]) -> str:
        graph = self._graph
        values, scales = quantise_weights(table)
        stored = graph.constant("embedding", values)
        scale = graph.constant("embedding.scale", scales)
        whole = graph.node("Gather", [stored, "input_ids"], "embedded.int8")
        exact = graph.node("Cast", [whole], "embedded.float", to=TensorProto.FLOAT)
        factor = graph.node("Gather", [scale, "input_ids"], "embedded.scale")
        return graph.node("Mul", [exact, factor], "embedded")

    def project(self, name: str, rows: str, weights: NDArray[np.float32]) -> str:
        stored, scale = self._store(name, weights)
        quantised = self._quantise(rows, weights.shape[1], self._zero_points)
        return self._multiply(name, quantised, stored, scale)

    def head(self, hidden: str, weights: NDArray[np.float32], *, tied: bool) -> str:
        graph = self._graph
        rows = last_position(graph, hidden)
        zero_points = last_position(graph, self._zero_points)
        quantised = self._quantise(rows, weights.shape[1], zero_points)
        stored, scale = self._turn_embedding() if tied else self._store("logits", weights)
        return self._multiply("logits", quantised, stored, scale)

    def _turn_embedding(self) -> tuple[str, str]:
        """The embedding's rows are the head's columns, so the same bytes and scales serve both."""
        graph = self._graph
        # Folded into a packed weight when the session loads, so the file holds one copy.
        stored = graph.node("Transpose", ["embedding"], "embedding.columns", perm=[1, 0])
        flat = graph.constant("flat", np.array([-1], np.int64))
        return stored, graph.node("Reshape", ["embedding.scale", flat], "embedding.column_scale")

    def _store(self, name: str, weights: NDArray[np.float32]) -> tuple[str, str]:
        values, scales = quantise_weights(weights)
        stored = self._graph.constant(f"{name}.weight", values.T)
        return stored, self._graph.constant(f"{name}.weight_scale", scales[:, 0])

    def _quantise(self, rows: str, width: int, zero_points: str) -> tuple[str, str]:
        """Give uint8 shaped like `rows` and scales [batch, sequence, 1]; once for each tensor."""
        if rows not in self._quantised:
            self._quantised[rows] = self._quantise_anew(rows, width, zero_points)
        return self._quantised[rows]

    def _quantise_anew(self, rows: str, width: int, zero_points: str) -> tuple[str, str]:
        graph = self._graph
        last_axis = graph.constant("last_axis", np.array([-1], np.int64))
        step = graph.constant("step", np.array(1 / ACTIVATION_LEVELS, np.float32))
        sizes = graph.node("Abs", [rows], f"{rows}.abs")
        peaks = graph.node("ReduceMax", [sizes, last_axis], f"{rows}.peak", keepdims=1)
        # A row of zeros has scale 0: whatever it quantises to is multiplied by 0 again.
        scales = graph.node("Mul", [peaks, step], f"{rows}.scale")
        # One block as wide as the row makes a blocked quantisation one of rows.
        values = graph.node(
            "QuantizeLinear", [rows, scales, zero_points], f"{rows}.uint8", axis=2, block_size=width
        )
        return values, scales

    def _multiply(self, name: str, quantised: tuple[str, str], stored: str, scale: str) -> str:
        graph = self._graph
        values, scales = quantised
        whole = graph.node("MatMulInteger", [values, stored, self._zero_point], f"{name}.int32")
        exact = graph.node("Cast", [whole], f"{name}.float", to=TensorProto.FLOAT)
        by_column = graph.node("Mul", [exact, scale], f"{name}.columns")
        return graph.node("Mul", [by_column, scales], name)
