"""Which tokens may come next, for all sequences of a step at once.

They are computed on the engine's thread between the model's run and the draws, in one call that
drops Python's lock: at 8 sequences some 0.05 ms at 4,000 words and 0.5 ms at 150,000, which is not
worth a pipeline of its own beside the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from llguidance import LLExecutor

from penstock.engine.grammar import Matcher
from penstock.engine.sampling import Allowed
from penstock.engine.sequence import EngineSequence


class Masks:
    """Masks over a vocabulary; without grammars it starts no thread."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    def of(self, sequences: Sequence[EngineSequence]) -> list[Allowed]:
        """For each sequence what its grammar allows. Where that fails, the matcher has an error.

        A sequence that is being rebuilt draws nothing: its grammar is where its tokens end.
        """
        bound = {
            row: matcher
            for row, sequence in enumerate(sequences)
            if (matcher := sequence.matching()) and not sequence.replaying
        }
        masks = self._compute([*bound.values()]) if bound else ()
        found = dict(zip(bound, masks, strict=True))
        return [found.get(row) for row in range(len(sequences))]

    def _compute(self, matchers: Sequence[Matcher]) -> npt.NDArray[np.bool_]:
        words = np.zeros((len(matchers), -(-matchers[0].size // 32)), np.uint32)
        if not self._fill(matchers, words):
            for row, matcher in enumerate(matchers):
                matcher.broken |= not self._fill([matcher], words[row : row + 1])
        octets = words.view(np.uint8)
        return np.unpackbits(octets, axis=1, count=self._vocab_size, bitorder="little").view(bool)

    def _fill(self, matchers: Sequence[Matcher], words: npt.NDArray[np.uint32]) -> bool:
        """Whether all could be computed. Where not, the words of none are to be relied on."""
        states = [(matcher.state, row) for row, matcher in enumerate(matchers)]
        try:
            self._executor.unsafe_compute_mask_ptr(
                states, words.ctypes.data, words.shape[1] * 4, len(matchers)
            )
        except BaseException:  # a panic in Rust is no Exception
            words[:] = 0
            return False
        return True

    @cached_property
    def _executor(self) -> LLExecutor:
        return LLExecutor()
