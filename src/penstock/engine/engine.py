"""Sequences over the KV cache: open, prefill by chunks, step many at once, close.

The engine knows token ids only. It is called from one thread at a time, decides nothing about
who is stepped, and computes every sequence in an order that depends on that sequence alone: prompt
chunks end at multiples of a fixed size and are computed one sequence a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

from penstock.engine.batch import Batch, Logits
from penstock.engine.model import Model
from penstock.engine.sampling import Draw, sample
from penstock.engine.slots import Slots
from penstock.events import FinishReason
from penstock.requests import Prompt


@dataclass(frozen=True, slots=True)
class Sampled:
    """One token. `end` is set on the last one; an EOS token is the last one and has no text."""

    token_id: int
    end: FinishReason | None = None


@dataclass(slots=True, eq=False)
class EngineSequence:
    """What the engine keeps of one sequence. Callers only hold it."""

    key: int
    prompt: Prompt
    token_ids: npt.NDArray[np.int64]
    cached: int = 0
    made: int = 0
    last_token: int = field(default=-1)

    @property
    def prefilled(self) -> bool:
        return self.cached >= len(self.token_ids)


class Engine:
    """Continuous batching over one model. See the module's first lines for what it leaves out."""

    def __init__(self, model: Model, *, slots: int, max_len: int, prefill_chunk: int) -> None:
        self.model = model
        self.max_len = max_len
        self.slots = Slots(model.spec, slots=slots, max_len=max_len)
        self._batch = Batch(model, self.slots)
        self._chunk = prefill_chunk
        self._keys = count()

    def __repr__(self) -> str:
        return f"<Engine {self.slots!r}>"

    def open(self, prompt: Prompt) -> EngineSequence:
        """Take a slot for `prompt`. Raises `ValueError` when none is free."""
        sequence = EngineSequence(next(self._keys), prompt, np.array(prompt.token_ids, np.int64))
        self.slots.open(sequence.key)
        return sequence

    def close(self, sequence: EngineSequence) -> None:
        self.slots.close(sequence.key)

    def prefill(self, sequence: EngineSequence) -> Sampled | None:
        """Compute the next prompt chunk; the first token once the prompt is done."""
        end = sequence.cached - sequence.cached % self._chunk + self._chunk
        ids = sequence.token_ids[sequence.cached : end]
        logits = self._batch.prefill(self.slots.row(sequence.key), ids)
        sequence.cached += len(ids)
        return self._sample(logits[None], [sequence])[0] if sequence.prefilled else None

    def step(self, sequences: Sequence[EngineSequence]) -> list[Sampled]:
        """One token for each of `sequences`, all in one run of the model."""
        rows = self.slots.gather([sequence.key for sequence in sequences])
        in_row_order = [sequences[i] for i in np.argsort(rows)]
        logits = self._batch.step([sequence.last_token for sequence in in_row_order])
        for sequence in sequences:
            sequence.cached += 1
        return self._sample(logits[rows], sequences)

    def _sample(self, logits: Logits, sequences: Sequence[EngineSequence]) -> list[Sampled]:
        draws = [
            Draw(sequence.prompt.sampling, sequence.prompt.seed, sequence.made)
            for sequence in sequences
        ]
        tokens = sample(logits, draws)
        return [self._accept(s, token) for s, token in zip(sequences, tokens, strict=True)]

    def _accept(self, sequence: EngineSequence, token: int) -> Sampled:
        sequence.last_token = token
        sequence.made += 1
        if token in self.model.spec.eos_ids and not sequence.prompt.ignore_eos:
            return Sampled(token, "stop")
        return Sampled(token, "length" if sequence.made >= sequence.prompt.max_tokens else None)
