"""How a decoder's numbers are stored and multiplied: what every precision can do.

A precision adds nodes to a graph; it knows the
shapes of what it multiplies and nothing of the model around it.
"""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.export.graph import Graph

Dtype = Literal["fp32", "int8row", "int8", "int4"]

LAST_POSITION = "last_position"


class Precision(Protocol):
    """Weights come as float32 [outputs, inputs], the way checkpoints hold them."""

    def embed(self, table: NDArray[np.float32]) -> str:
        """Look input_ids up in `table` [vocab, hidden]; give [batch, sequence, hidden]."""
        ...

    def project(self, name: str, rows: str, weights: NDArray[np.float32]) -> str:
        """Multiply float32 [batch, sequence, inputs]; give [batch, sequence, outputs]."""
        ...

    def head(self, hidden: str, weights: NDArray[np.float32], *, tied: bool) -> str:
        """Give the logits [batch, 1, vocab] of the last position.

        `tied` says that `weights` are the table given to `embed`, which is then not stored again.
        """
        ...


def last_position(graph: Graph, rows: str) -> str:
    """Keep the last position only: [batch, sequence, width] to [batch, 1, width]."""
    index = graph.constant(LAST_POSITION, np.array([-1], np.int64))
    return graph.node("Gather", [rows, index], f"{rows}.last", axis=1)
