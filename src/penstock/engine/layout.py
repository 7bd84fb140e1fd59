"""How a graph keeps its cache, found by running it: in place, or grown by concatenation.

Neither names nor operators tell the two apart reliably; a token over a past of eight does. A
present of eight means that the past was a buffer with room in it, written in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from penstock.engine.signature import Array, Signature
from penstock.engine.spec import ModelError

PAST = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """`last_only`: logits come for the last position alone, however long the prompt is."""

    in_place: bool
    last_only: bool
    vocab_size: int


class Probe:
    """Runs one graph on made-up tokens; `kv_heads` and `head_dim` are those of its caches."""

    def __init__(
        self, session: ort.InferenceSession, signature: Signature, kv_heads: int, head_dim: int
    ) -> None:
        self._session = session
        self._signature = signature
        self._heads, self._head_dim = kv_heads, head_dim
        # A trial may fail, and what fails here is told once, as a ModelError.
        self._quietly = ort.RunOptions()
        self._quietly.log_severity_level = 4

    def layout(self, name: str) -> Layout:
        """Raises `ModelError` where the graph called `name` does neither."""
        in_place = self._writes_in_place()
        try:
            if not in_place and self._run(1, PAST, PAST + 1)[1].shape[2] != PAST + 1:
                raise ModelError(f"{name} neither grows its KV cache nor writes it in place")
            logits = self._run(2, PAST if in_place else 0, 2)[0]
            self._run(2, PAST, PAST if in_place else PAST + 2)
        except ModelError:
            raise
        except Exception as error:  # onnxruntime raises a family of its own without a common base
            reason = str(error).splitlines()[0][:200]
            raise ModelError(f"{name} fails on a trial run: {reason}") from None
        if logits.ndim != 3:
            raise ModelError(f"{name} gives logits of shape {logits.shape}; 3 dimensions are used")
        return Layout(in_place, logits.shape[1] == 1, logits.shape[2])

    def _writes_in_place(self) -> bool:
        try:
            return bool(self._run(1, PAST, 1)[1].shape[2] == PAST)
        except Exception:  # a graph that concatenates may refuse so short a mask
            return False

    def _run(self, tokens: int, past: int, total: int) -> tuple[Array, Array]:
        """Logits, and the present keys of the first layer."""
        ids = np.zeros((1, tokens), np.int64)
        positions = np.arange(total - tokens, total)[None]
        feed: dict[str, Any] = self._signature.feed(ids, np.ones((1, total), np.int64), positions)
        shape = (1, self._heads, past, self._head_dim)
        empty = np.zeros(shape, self._signature.kv_dtype)
        feed.update({name: empty for name, _ in self._signature.kv})
        outputs = ["logits", self._signature.kv[0][1]]
        logits, present = self._session.run(outputs, feed, self._quietly)
        return logits, present
