"""How a decoder's numbers are stored and multiplied: what every precision can do.

A precision adds nodes to a graph; it knows the
shapes of what it multiplies and nothing of the model around it.
"""

from typing import Any, Literal, Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from penstock.export.errors import ExportError
from penstock.export.graph import Graph

Dtype = Literal["fp32", "fp16", "bf16", "int8row", "int8", "int4"]

FLOAT32 = np.dtype(np.float32)

LAST_POSITION = "last_position"


class Precision(Protocol):
    """Weights come as float32 [outputs, inputs], the way checkpoints hold them."""

    dtype: np.dtype[Any]
    """What activations, norms, rotations and KV are in."""
    logits: np.dtype[Any]

    def embed(self, table: NDArray[np.float32]) -> str:
        """Look input_ids up in `table` [vocab, hidden]; give [batch, sequence, hidden]."""
        ...

    def project(self, name: str, rows: str, weights: NDArray[np.float32]) -> str:
        """Multiply [batch, sequence, inputs]; give [batch, sequence, outputs]."""
        ...

    def head(self, hidden: str, weights: NDArray[np.float32], *, tied: bool) -> str:
        """Give the logits [batch, 1, vocab] of the last position.

        `tied` says that `weights` are the table given to `embed`, which is then not stored again.
        """
        ...


def fit(name: str, values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`values` as `dtype`; ExportError where one of them is too large for it."""
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    if dtype != FLOAT32 and max(values.max(), -values.min()) > largest:
        raise ExportError(f"{name} has values that {dtype} cannot hold; export with --dtype fp32")
    return values.astype(dtype, copy=False)


def last_position(graph: Graph, rows: str) -> str:
    """Keep the last position only: [batch, sequence, width] to [batch, 1, width]."""
    index = graph.constant(LAST_POSITION, np.array([-1], np.int64))
    return graph.node("Gather", [rows, index], f"{rows}.last", axis=1)
