"""Sequences over the KV cache: admit, prefill by chunks, step many at once, evict, close.

The engine knows token ids only. It is called from one thread at a time, decides nothing about
who is stepped, and computes every sequence in an order that depends on that sequence alone: prompt
chunks end at multiples of a fixed size and are computed one sequence a call; what was decoded is
computed again, where it must be, by the same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

from penstock.engine.batch import Logits, make_batch
from penstock.engine.interrupt import Interrupt
from penstock.engine.logprobs import UNSCORED, Scores, score
from penstock.engine.model import Model
from penstock.engine.parked import ParkedKV
from penstock.engine.prefix import PrefixCache, chain
from penstock.engine.sampling import Draw, sample
from penstock.engine.slots import Slots
from penstock.events import FinishReason, Token
from penstock.requests import Prompt


@dataclass(frozen=True, slots=True)
class Sampled(Token):
    """A token just made. `end` is set on the last; an EOS token is the last and has no text."""

    end: FinishReason | None = None


class BrokenRowError(Exception):
    """The model gave one sequence something that is not a distribution."""


# What one sequence gets from a turn: a token, nothing yet, or what went wrong with it alone.
Result = Sampled | Exception | None


@dataclass(slots=True, eq=False)
class EngineSequence:
    """What the engine keeps of one sequence. Callers only hold it.

    `tokens` are those made so far. `cached` counts the positions in its KV row: the prompt and all
    tokens but the last, or fewer while an evicted sequence is being rebuilt.
    """

    key: int
    prompt: Prompt
    token_ids: npt.NDArray[np.int64]
    digests: list[bytes]
    cached: int = 0
    tokens: list[int] = field(default_factory=list)

    @property
    def prefilled(self) -> bool:
        return self.cached >= len(self.token_ids)

    @property
    def next_input(self) -> int:
        """The token whose KV the next step computes."""
        return self.tokens[self.cached - len(self.token_ids)]

    @property
    def replaying(self) -> bool:
        """Whether the newest token computed from the KV is one that was made before."""
        return self.cached < len(self.token_ids) + len(self.tokens)


class Engine:
    """Continuous batching over one model. See the module's first lines for what it leaves out."""

    def __init__(
        self,
        model: Model,
        *,
        slots: int,
        max_len: int,
        prefill_chunk: int,
        parked_kv_bytes: int = 0,
        prefix_cache_bytes: int = 0,
    ) -> None:
        self.model = model
        self.max_len = max_len
        self.slots = Slots(model.spec, slots=slots, max_len=max_len)
        self.parked = ParkedKV(parked_kv_bytes)
        self.prefixes = PrefixCache(prefix_cache_bytes)
        self._batch = make_batch(model, self.slots)
        self._chunk = prefill_chunk
        self._keys = count()

    def __repr__(self) -> str:
        return f"<Engine {self.slots!r}>"

    def open(self, prompt: Prompt) -> EngineSequence:
        """A sequence without a slot yet."""
        token_ids = np.array(prompt.token_ids, np.int64)
        digests = chain(prompt.scope, token_ids, self._chunk)
        return EngineSequence(next(self._keys), prompt, token_ids, digests)

    def admit(self, sequence: EngineSequence) -> None:
        """Give `sequence` a slot and whatever of its KV is at hand; the rest is to be computed.

        Raises `ValueError` when no slot is free.
        """
        self.slots.open(sequence.key)
        saved = self.parked.take(sequence.key)
        if saved is not None:
            self.slots.append(sequence.key, saved)
            return
        sequence.cached = 0
        # The last chunk is always computed: its logits give the first token.
        for copy in self.prefixes.match(sequence.digests[: self._shareable(sequence)]):
            self.slots.append(sequence.key, copy)
            sequence.cached += copy.positions

    def evict(self, sequence: EngineSequence) -> None:
        """Take the slot back and keep a copy of its KV, as far as the budget goes."""
        with suppress(MemoryError):  # losing the copy costs time, never a token
            self.parked.put(sequence.key, self.slots.copy_out(sequence.key, 0, sequence.cached))
        self.slots.close(sequence.key)

    def close(self, sequence: EngineSequence) -> None:
        """Forget `sequence`, with its slot or its copy."""
        self.parked.take(sequence.key)
        if self.slots.holds(sequence.key):
            self.slots.close(sequence.key)

    def prefill(self, sequence: EngineSequence, interrupt: Interrupt | None = None) -> Result:
        """Compute the next prompt chunk; the first token once the prompt is done.

        Where `interrupt` cuts the run short, nothing has happened to the sequence.
        """
        interrupt = interrupt or Interrupt()
        start = sequence.cached
        ids = sequence.token_ids[start : start - start % self._chunk + self._chunk]
        try:
            logits = self._batch.prefill(self.slots.row(sequence.key), ids, interrupt.options)
        except Exception:
            if interrupt.wanted:
                return None
            raise
        sequence.cached += len(ids)
        if np.isfinite(logits.max()):
            self._share(sequence, start)
        if not sequence.prefilled or sequence.tokens:
            return None
        return self._sample(logits[None], [sequence])[0]

    def step(self, sequences: Sequence[EngineSequence]) -> list[Result]:
        """One position for each of `sequences`, in one run of the model.

        Where that run fails, each is tried on its own, so that one can harm itself only.
        """
        rows = self.slots.gather([sequence.key for sequence in sequences])
        in_row_order = [sequences[i] for i in np.argsort(rows)]
        try:
            logits = self._run(in_row_order)
        except Exception:
            return [self._step_alone(sequence) for sequence in sequences]
        results = self._sample(logits, in_row_order)
        return [results[row] for row in rows]

    def _run(self, sequences: Sequence[EngineSequence]) -> Logits:
        """`sequences` hold the rows `[0:len(sequences)]`, in this order."""
        logits = self._batch.step([sequence.next_input for sequence in sequences])
        for sequence in sequences:
            sequence.cached += 1
        return logits

    def _step_alone(self, sequence: EngineSequence) -> Result:
        self.slots.gather([sequence.key])
        try:
            logits = self._run([sequence])
        except Exception as error:
            return error
        return self._sample(logits, [sequence])[0]

    def _sample(self, logits: Logits, sequences: Sequence[EngineSequence]) -> list[Result]:
        draws = [_draw(sequence) for sequence in sequences]
        tokens = sample(logits, draws)
        # Any NaN makes the maximum one; a draw from such a row would look like a token.
        sound = np.isfinite(logits.max(axis=1)).tolist()
        return [
            self._accept(sequences[i], token, _score(logits[i], sequences[i], draws[i], token))
            if sound[i]
            else BrokenRowError("logits are not numbers")
            for i, token in enumerate(tokens)
        ]

    def _accept(self, sequence: EngineSequence, token: int, scores: Scores) -> Result:
        if sequence.replaying:
            return None
        sequence.tokens.append(token)
        if token in self.model.spec.eos_ids and not sequence.prompt.ignore_eos:
            return Sampled(token, *scores, "stop")
        full = len(sequence.tokens) >= sequence.prompt.max_tokens
        return Sampled(token, *scores, "length" if full else None)

    def _shareable(self, sequence: EngineSequence) -> int:
        """How many whole chunks end before the last prompt token."""
        return (len(sequence.token_ids) - 1) // self._chunk

    def _share(self, sequence: EngineSequence, start: int) -> None:
        """Keep a copy of the chunk that begins at `start`, if it is whole and new."""
        index, end = start // self._chunk, start + self._chunk
        if end <= sequence.cached and self.prefixes.wants(sequence.digests[index]):
            copy = self.slots.copy_out(sequence.key, start, end)
            self.prefixes.put(sequence.digests[index], copy)


def _draw(sequence: EngineSequence) -> Draw:
    prompt = sequence.prompt
    return Draw(
        prompt.sampling,
        prompt.seed,
        len(sequence.tokens),
        prompt=sequence.token_ids,
        answer=sequence.tokens,
    )


def _score(row: Logits, sequence: EngineSequence, draw: Draw, token: int) -> Scores:
    count = sequence.prompt.logprobs
    return UNSCORED if count is None else score(draw.adjust(row), token, count)
