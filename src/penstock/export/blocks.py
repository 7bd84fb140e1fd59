"""Weights of 8 or 4 bits, a scale for every block of 32 along a row; activations stay float32.

The kernel unpacks weights as it multiplies, so a step reads an eighth to a quarter of the memory.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.export.graph import MICROSOFT, Graph
from penstock.export.precision import FLOAT32, last_position
from penstock.export.quantise import quantise_blocks

BLOCK = 32
TABLE_BITS = 8
"""The embedding and the head keep 8 bits: they are the matrices that suffer most from 4."""

_BY_INTEGERS = 4
"""The kernel's accuracy level: activations are rounded to int8, a scale for every block of them."""


class Blocks:
    """A Precision; see there for the shapes."""

    dtype: np.dtype[Any] = FLOAT32
    logits: np.dtype[Any] = FLOAT32

    def __init__(self, graph: Graph, *, bits: int) -> None:
        self._graph = graph
        self._bits = bits

    def embed(self, table: NDArray[np.float32]) -> str:
        graph = self._graph
        stored, scales = self._store("embedding", table, TABLE_BITS)
        flat = graph.constant("embedding.shape", np.array([len(table), -1], np.int64))
        rows = graph.node("Reshape", [stored, flat], "embedding.rows")
        return graph.node(
            "GatherBlockQuantized",
            [rows, "input_ids", scales],
            "embedded",
            domain=MICROSOFT,
            bits=TABLE_BITS,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )

    def project(self, name: str, rows: str, weights: NDArray[np.float32]) -> str:
        return self._multiply(name, rows, weights, f"{name}.weight", self._bits)

    def head(self, hidden: str, weights: NDArray[np.float32], *, tied: bool) -> str:
        rows = last_position(self._graph, hidden)
        stored = "embedding" if tied else "logits.weight"
        return self._multiply("logits", rows, weights, stored, TABLE_BITS)

    def _multiply(
        self, name: str, rows: str, weights: NDArray[np.float32], stored: str, bits: int
    ) -> str:
        outputs, inputs = weights.shape
        return self._graph.node(
            "MatMulNBits",
            [rows, *self._store(stored, weights, bits)],
            name,
            domain=MICROSOFT,
            K=inputs,
            N=outputs,
            bits=bits,
            block_size=BLOCK,
            accuracy_level=_BY_INTEGERS,
        )

    def _store(self, name: str, weights: NDArray[np.float32], bits: int) -> tuple[str, str]:
        values, scales = quantise_blocks(weights, bits=bits, block=BLOCK)
        graph = self._graph
        return graph.constant(name, values), graph.constant(f"{name}.scale", scales)
