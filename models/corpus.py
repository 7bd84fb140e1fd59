"""Tokens by kind: windows to train on, and windows that were held back. Numpy only."""

from collections.abc import Mapping

import numpy as np
import prep
from numpy.typing import NDArray
from tokenizers import Tokenizer

Windows = NDArray[np.int64]

VALIDATION_WINDOWS = 64


class Corpus:
    """Every window is `width` tokens wide and may span documents."""

    def __init__(
        self,
        tokeniser: Tokenizer,
        parts: tuple[prep.Parts, prep.Parts],
        *,
        width: int,
        mix: Mapping[str, float],
    ) -> None:
        self._training, self._validation = (
            {kind: prep.encode(tokeniser, texts) for kind, texts in part.items()} for part in parts
        )
        self._width = width
        self._kinds = [kind for kind in prep.KINDS if mix.get(kind) and parts[0][kind]]
        if not self._kinds:
            raise prep.TrainError(f"--mix names no kind that has documents: {', '.join(mix)}")
        shares = np.array([mix[kind] for kind in self._kinds])
        self._shares = shares / shares.sum()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k} {len(self._training[k]) / 1e6:.2f} M" for k in self._kinds)
        return f"<Corpus of tokens to train on: {sizes}>"

    def batch(self, size: int, key: tuple[int, int]) -> Windows:
        """Draw [size, width], the kinds mixed as asked; equal keys give equal windows."""
        rng = np.random.default_rng(key)
        drawn = rng.choice(self._kinds, size, p=self._shares)
        return np.stack([self._window(self._training[kind], rng) for kind in drawn])

    def held_back(self, kind: str) -> Windows:
        """Return the first windows [n, width] of what was held back; n may be 0."""
        tokens = self._validation[kind]
        count = min(VALIDATION_WINDOWS, len(tokens) // self._width)
        return tokens[: count * self._width].reshape(count, self._width).astype(np.int64)

    def _window(self, tokens: prep.Tokens, rng: np.random.Generator) -> Windows:
        if len(tokens) < self._width:
            return np.resize(tokens, self._width).astype(np.int64)
        start = int(rng.integers(0, len(tokens) - self._width + 1))
        return tokens[start : start + self._width].astype(np.int64)
