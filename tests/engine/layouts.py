"""The models of other people's layouts, and what is expected of each.

`tests/fixtures/make_models.py` made them, with the exporters that users have, and computed the
reference logits with transformers from the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.engine.batch import Batch, make_batch
from penstock.engine.model import Model, load_model
from penstock.engine.slots import Slots

MODELS = Path(__file__).parents[1] / "fixtures" / "models"

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """`tolerance` is how far a logit may be from the expected one; logits span about ±6.

    Expected is what transformers computes in float32. Quantised weights are far from that (and
    random ones suffer more than trained ones), so there it is what the graph itself gives for the
    whole text in one plain run; `agreement` is how that correlates with transformers.
    """

    path: str
    reference: str
    tolerance: float
    agreement: float
    in_place: bool

    def __str__(self) -> str:
        return self.path

    @property
    def quantised(self) -> bool:
        return "int" in self.path


CASES = [
    Case("genai_fp32", "llama", 2e-5, 1 - 1e-9, in_place=True),
    Case("genai_fp16", "llama", 0.05, 0.9999, in_place=True),
    Case("genai_int8", "llama", 0.3, 0.999, in_place=True),
    Case("genai_int4", "llama", 0.3, 0.8, in_place=True),
    Case("optimum_llama", "llama", 2e-5, 1 - 1e-9, in_place=False),
    Case("optimum_gpt2", "gpt2", 2e-5, 1 - 1e-9, in_place=False),
    Case("transformers_js/onnx/model.onnx", "llama", 2e-5, 1 - 1e-9, in_place=False),
    Case("transformers_js/onnx/model_fp16.onnx", "llama", 0.05, 0.9999, in_place=False),
]


@cache
def opened(path: str) -> Model:
    return load_model(MODELS / path, threads=1)


@cache
def by_transformers(name: str) -> tuple[npt.NDArray[np.int64], Logits]:
    """Tokens, and the logits after each of them."""
    stored = np.load(MODELS / f"{name}.npz")
    return stored["tokens"], stored["logits"]


@cache
def expected(case: Case) -> tuple[npt.NDArray[np.int64], Logits]:
    """Tokens, and what the tests ask of the logits after each of them."""
    tokens, logits = by_transformers(case.reference)
    return tokens, _in_one_run(opened(case.path), tokens) if case.quantised else logits


def _in_one_run(model: Model, tokens: npt.NDArray[np.int64]) -> Logits:
    ids = tokens[None]
    feed = model.signature.feed(ids, np.ones_like(ids), np.arange(ids.shape[1])[None])
    room = np.zeros((1, model.spec.kv_heads, 64, model.spec.head_dim), np.float32)
    feed.update({past: room for past, _ in model.spec.kv_names})
    logits: Logits = model.session.run(["logits"], feed)[0][0]
    return logits


class Rows:
    """A batch over its slots, in terms of sequences."""

    def __init__(self, model: Model, *, slots: int = 16, max_len: int = 64) -> None:
        self.slots = Slots(model.spec, slots=slots, max_len=max_len)
        # Poisoned, so that reading a place nobody wrote cannot go unnoticed.
        for buffer in self.slots.buffers:
            buffer[:] = 1e3
        self.batch: Batch = make_batch(model, self.slots)

    def prefill(self, key: int, tokens: Sequence[int] | npt.NDArray[np.int64]) -> Logits:
        """Append to a sequence, opened at its first tokens."""
        row = self.slots.open(key) if key not in self.slots._rows else self.slots.row(key)
        return self.batch.prefill(row, np.asarray(tokens, np.int64)).copy()

    def step(self, tokens: dict[int, int]) -> dict[int, Logits]:
        """One token for each key; the others are parked."""
        rows = self.slots.gather(list(tokens))
        ordered = [tokens[key] for _, key in sorted(zip(rows, tokens, strict=True))]
        logits = self.batch.step(ordered)
        return {key: logits[row].copy() for key, row in zip(tokens, rows, strict=True)}
