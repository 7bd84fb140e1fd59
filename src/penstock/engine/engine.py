"""Sequences over the KV cache: admit, prefill by chunks, step many at once, evict, close.

The engine knows token ids only. It is called from one thread at a time, decides nothing about
who is stepped, and computes every sequence in an order that depends on that sequence alone: prompt
chunks end at multiples of a fixed size and are computed one sequence a call; what was decoded is
computed again, where it must be, by the same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count

import numpy as np

from penstock.engine.batch import Logits, make_batch
from penstock.engine.drawing import draw_of, score_of
from penstock.engine.interrupt import Interrupt
from penstock.engine.logprobs import UNSCORED, Scores
from penstock.engine.masks import Masks
from penstock.engine.model import Model
from penstock.engine.parked import ParkedKV
from penstock.engine.prefix import PrefixCache, chain
from penstock.engine.sampling import NOTHING, sample
from penstock.engine.sequence import BrokenRowError, EngineSequence, Result, Root, Sampled
from penstock.engine.shortlist import Shortlist
from penstock.engine.slots import Slots
from penstock.requests import Prompt


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
        self.slots = Slots(model.spec, slots=slots, max_len=max_len, memory=model.memory)
        self.parked = ParkedKV(parked_kv_bytes)
        self.prefixes = PrefixCache(prefix_cache_bytes)
        self._batch = make_batch(model, self.slots)
        self.captured_rows = self._batch.captured_rows
        self.prefill_chunk = prefill_chunk
        self._keys = count()
        self._masks = Masks(model.spec.vocab_size)

    def __repr__(self) -> str:
        return f"<Engine {self.slots!r}>"

    @property
    def cached_tokens(self) -> int:
        """Tokens whose KV is in the slots."""
        return int(self.slots.lengths.sum())

    def open(self, prompt: Prompt) -> EngineSequence:
        """A sequence without a slot yet."""
        return self.open_choices(prompt)[0]

    def open_choices(self, prompt: Prompt) -> list[EngineSequence]:
        """A sequence for each choice. Those after the first take over its computed prompt."""
        token_ids = np.array(prompt.token_ids, np.int64)
        digests = chain(prompt.caller.scope, token_ids, self.prefill_chunk)
        root = Root(next(self._keys), prompt.n) if prompt.n > 1 else None
        given = prompt.given or [()] * prompt.n
        return [
            EngineSequence(
                next(self._keys), prompt, token_ids, digests, root, choice, tokens=list(made)
            )
            for choice, made in enumerate(given)
        ]

    def admit(self, sequence: EngineSequence) -> Result:
        """Give `sequence` a slot and whatever of its KV is at hand; the rest is to be computed.

        The first token, where another choice has computed the prompt. Raises `ValueError` when no
        slot is free.
        """
        self.slots.open(sequence.key)
        saved = self.parked.take(sequence.key)
        if saved is not None:
            self.slots.append(sequence.key, saved)
            return None
        sequence.cached = 0
        if sequence.root is not None and sequence.root.logits is not None:
            return self._branch(sequence, sequence.root, sequence.root.logits)
        self._reuse(sequence)
        return None

    def _branch(self, sequence: EngineSequence, root: Root, logits: Logits) -> Result:
        """Begin at the end of a prompt that another choice has computed."""
        copy = self.parked.get(root.key)
        if copy is None:
            self._reuse(sequence)
            return None
        self.slots.append(sequence.key, copy)
        sequence.cached = copy.positions
        return None if sequence.tokens else self._sample(logits[None], [sequence])[0]

    def _reuse(self, sequence: EngineSequence) -> None:
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
        if (root := sequence.root) is not None:
            root.users -= 1
            if not root.users:
                self.parked.take(root.key)

    def prefill(self, sequence: EngineSequence, interrupt: Interrupt | None = None) -> Result:
        """Compute the next prompt chunk; the first token once the prompt is done.

        Where `interrupt` cuts the run short, nothing has happened to the sequence.
        """
        interrupt = interrupt or Interrupt()
        start = sequence.cached
        ids = sequence.token_ids[start : start - start % self.prefill_chunk + self.prefill_chunk]
        try:
            logits = self._batch.prefill(self.slots.row(sequence.key), ids, interrupt.options)
        except Exception:
            if interrupt.wanted:
                return None
            raise
        sequence.cached += len(ids)
        if np.isfinite(logits.max()):
            self._share(sequence, start)
            self._keep_root(sequence, logits)
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

    def _run(self, sequences: Sequence[EngineSequence]) -> Logits | Shortlist:
        """`sequences` hold the rows `[0:len(sequences)]`, in this order."""
        token_ids = [sequence.next_input for sequence in sequences]
        made = self._batch.shortlist(token_ids) or self._batch.step(token_ids)
        for sequence in sequences:
            sequence.cached += 1
        return made

    def _step_alone(self, sequence: EngineSequence) -> Result:
        self.slots.gather([sequence.key])
        try:
            logits = self._run([sequence])
        except Exception as error:
            return error
        return self._sample(logits, [sequence])[0]

    def _sample(
        self, made: Logits | Shortlist, sequences: Sequence[EngineSequence]
    ) -> list[Result]:
        if isinstance(made, Shortlist):
            return self._sample_few(made, sequences)
        return self._sample_all(made, sequences)

    def _sample_few(self, made: Shortlist, sequences: Sequence[EngineSequence]) -> list[Result]:
        few = [row for row, each in enumerate(sequences) if made.suffices(row, each.prompt)]
        rest = sorted(set(range(len(sequences))) - set(few))
        tokens = made.draw(few, [draw_of(sequences[row]) for row in few])
        results = {
            row: self._accept(sequences[row], token, UNSCORED)
            for row, token in zip(few, tokens, strict=True)
        }
        if rest:
            others = self._sample_all(made.whole(rest), [sequences[row] for row in rest])
            results |= dict(zip(rest, others, strict=True))
        return [results[row] for row in range(len(sequences))]

    def _sample_all(self, logits: Logits, sequences: Sequence[EngineSequence]) -> list[Result]:
        masks = self._masks.of(sequences)
        draws = [draw_of(sequence, mask) for sequence, mask in zip(sequences, masks, strict=True)]
        tokens = sample(logits, draws)
        # Any NaN makes the maximum one; a draw from such a row would look like a token.
        sound = np.isfinite(logits.max(axis=1)).tolist()
        return [
            self._accept(sequences[i], token, score_of(logits[i], sequences[i], draws[i], token))
            if sound[i]
            else BrokenRowError("logits are not numbers")
            for i, token in enumerate(tokens)
        ]

    def _accept(self, sequence: EngineSequence, token: int, scores: Scores) -> Result:
        if sequence.replaying:
            return None
        if (matcher := sequence.matcher) is not None:
            if token != NOTHING:
                matcher.accept(token)
            if token == NOTHING or matcher.error:
                return matcher.error or BrokenRowError("no allowed token has a probability")
        sequence.tokens.append(token)
        if token in self.model.spec.eos_ids and not sequence.prompt.ignore_eos:
            return Sampled(token, *scores, "stop")
        if matcher is not None and matcher.finished:
            return Sampled(token, *scores, "stop")
        full = len(sequence.tokens) >= sequence.prompt.max_tokens
        return Sampled(token, *scores, "length" if full else None)

    def _shareable(self, sequence: EngineSequence) -> int:
        """How many whole chunks end before the last prompt token."""
        return (len(sequence.token_ids) - 1) // self.prefill_chunk

    def _share(self, sequence: EngineSequence, start: int) -> None:
        """Keep a copy of the chunk that begins at `start`, if it is whole and new."""
        index, end = start // self.prefill_chunk, start + self.prefill_chunk
        if end <= sequence.cached and self.prefixes.wants(sequence.digests[index]):
            copy = self.slots.copy_out(sequence.key, start, end)
            self.prefixes.put(sequence.digests[index], copy)

    def _keep_root(self, sequence: EngineSequence, logits: Logits) -> None:
        """Keep the whole prompt for the other choices, as far as the budget goes."""
        root = sequence.root
        if root is None or root.logits is not None or not sequence.prefilled:
            return
        with suppress(MemoryError):  # the others then compute it again
            self.parked.put(root.key, self.slots.copy_out(sequence.key, 0, sequence.cached))
            root.logits = logits.copy()
