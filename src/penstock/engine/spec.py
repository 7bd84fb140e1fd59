"""What the engine needs to know of a decoder: sizes, ids, and the type of its cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
"""`[rows, vocab]`, in single precision whatever the graph computes in."""

FLOAT32 = np.dtype(np.float32)


class ModelError(ValueError):
    """A folder that cannot be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shapes and ids of one decoder. A KV buffer is `[rows, kv_heads, positions, head_dim]`.

    `names` are the input and output name of each KV buffer; empty stands for the usual ones.
    """

    layers: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    eos_ids: frozenset[int]
    kv_dtype: npt.DTypeLike = FLOAT32
    names: tuple[tuple[str, str], ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)
    """How the model's makers would sample from it, as far as they say."""

    @property
    def kv_bytes_per_token(self) -> int:
        """What one position of one row takes, all layers together."""
        size = np.dtype(self.kv_dtype).itemsize
        return len(self.kv_names) * self.kv_heads * self.head_dim * size

    @property
    def kv_names(self) -> list[tuple[str, str]]:
        """Input and output name of each KV buffer, layer by layer, key before value."""
        return list(self.names) or [
            (f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}")
            for layer in range(self.layers)
            for kind in ("key", "value")
        ]
