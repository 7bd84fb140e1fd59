"""A live generation as a source of events: tokens in, text out, one ending."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from penstock.decoder import Decoder
from penstock.ending import Asked
from penstock.engine.grammar import Matcher
from penstock.engine.sequence import Sampled
from penstock.engine.text import TextStream
from penstock.errors import PenstockError
from penstock.events import Delta, Ended, Figures, Finished, FinishReason, Token, Usage
from penstock.pipeline import Emit
from penstock.progress import Progress
from penstock.reader import TokenSequence
from penstock.requests import Prompt

Spend: TypeAlias = Callable[[], Awaitable[None]]
"""Counts one more token of somebody's quota; raises `PenstockError` where there is none left."""


@dataclass(slots=True)
class Choice:
    """One answer: turns the tokens of one sequence into text."""

    number: int
    text: TextStream
    spend: Spend | None
    before: Progress
    eos_ids: Container[int]
    matcher: Matcher | None = None
    """Follows what was made before through its grammar."""
    made: int = 0
    """Tokens taken from the decoder so far."""
    seated_s: float | None = None
    first_s: float | None = None
    """When the slot was given and when the first token came, in Trio's time."""
    _unsent: list[Token] = field(default_factory=list)

    async def decode(self, sequence: TokenSequence, emit: Emit) -> Ended:
        """Emit text until the answer ends; the slot is free before its last text is taken.

        What was told before is made again from the same tokens, and not emitted.
        """
        emit = _Behind(emit, self.before.events)
        reason, piece = await self._decode(sequence, emit)
        sequence.close()
        if rest := piece + self.text.flush():
            await emit(self._delta(rest, settled=False))
        cut = self.text.stop
        return Ended("stop" if cut else reason, self.made, self._take(), cut, self.number)

    async def _decode(self, sequence: TokenSequence, emit: Emit) -> tuple[FinishReason, str]:
        """Why it ended, and what its last token has completed."""
        while True:
            again = self.made < len(self.before.tokens)
            sampled = self._again(sequence.prompt) if again else await self._next(sequence)
            self.made += 1
            self._unsent.append(sampled)
            piece = self.text.push(sampled.token_id)
            if self.text.stop is not None:
                return "stop", piece
            if sampled.end is not None:
                return sampled.end, piece
            if piece:
                await emit(self._delta(piece, settled=not self.text.holding))

    async def _next(self, sequence: TokenSequence) -> Sampled:
        sampled = await sequence.next_token()
        if self.spend is not None:
            await self.spend()
        if self.first_s is None:
            self.seated_s, self.first_s = sequence.entry.seated_s, trio.current_time()
        return sampled

    def _again(self, prompt: Prompt) -> Sampled:
        """The next token of those that were made before, with the end that it was."""
        token_id = self.before.tokens[self.made]
        if token_id in self.eos_ids and not prompt.ignore_eos:
            return Sampled(token_id, end="stop")
        if self.matcher is not None:
            self.matcher.accept(token_id)
            if self.matcher.finished:
                return Sampled(token_id, end="stop")
        full = self.made + 1 >= prompt.max_tokens
        return Sampled(token_id, end="length" if full else None)

    def _delta(self, text: str, *, settled: bool) -> Delta:
        return Delta(text, self._take(), self.made, self.number, settled)

    def _take(self) -> tuple[Token, ...]:
        tokens, self._unsent = tuple(self._unsent), []
        return tokens


class _Behind:
    """Drops the first `count` events."""

    def __init__(self, emit: Emit, count: int) -> None:
        self._emit = emit
        self._left = count

    async def __call__(self, event: Delta | Ended) -> None:
        if self._left:
            self._left -= 1
        else:
            await self._emit(event)


class Generation:
    """Decodes `prompt` and emits the text of each choice. Call it once.

    `queued` is called once its sequences wait for their slots; `spend` is awaited for each token;
    `before` is how far another process had come with each choice, if one had begun.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompt: Prompt,
        new_text: Callable[[], TextStream],
        queued: Callable[[], None] = lambda: None,
        spend: Spend | None = None,
        asked: Asked = Asked(),  # noqa: B008  # frozen
        before: Sequence[Progress] = (),
    ) -> None:
        self.prompt = prompt
        self.asked = asked
        self._decoder = decoder
        self._queued = queued
        self._sequences: list[TokenSequence] = []
        eos_ids = decoder.engine.model.spec.eos_ids if before else ()
        self._choices = [
            Choice(number, new_text(), spend, progress, eos_ids, _follow(prompt, before))
            for number, progress in enumerate(before or [Progress()] * prompt.n)
        ]

    @property
    def made(self) -> int:
        """Tokens taken from the decoder so far, those of all choices together."""
        return sum(choice.made for choice in self._choices)

    @property
    def computed(self) -> int:
        """Tokens that the model has made for this, wanted or not."""
        return sum(sequence.computed for sequence in self._sequences)

    @property
    def called(self) -> bool:
        """Whether it has asked for slots, or had them."""
        return bool(self._sequences)

    @property
    def account(self) -> str:
        """Who asked for it."""
        return self.prompt.caller.account

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt.token_ids)

    @property
    def waits(self) -> bool:
        """Whether none of its sequences has had a slot yet."""
        return not any(sequence.entry.begun for sequence in self._sequences)

    @property
    def state(self) -> str:
        """What its first sequence is doing: see `TokenSequence.state`."""
        return self._sequences[0].state if self._sequences else "queued"

    @property
    def seated_s(self) -> float | None:
        """When the first slot was given, in Trio's time."""
        return self._choices[0].seated_s

    @property
    def first_s(self) -> float | None:
        """When the first token came, in Trio's time."""
        return self._choices[0].first_s

    def figures(self, now_s: float) -> Figures:
        """How it has gone from its arrival until `now_s`, in Trio's time."""
        if self.first_s is None or self.seated_s is None:
            return Figures(None, None, self.made, None)
        arrived_s, decoding_s = self.asked.arrived_s, now_s - self.first_s
        return Figures(
            queue_s=max(self.seated_s - arrived_s, 0.0),
            ttft_s=self.first_s - arrived_s,
            tokens=self.made,
            tokens_per_s=(self.made - 1) / decoding_s if decoding_s else None,
        )

    async def __call__(self, emit: Emit) -> Finished:
        """Emit text until the last choice has ended.

        Resource handling: all slots are free when this returns or raises, or is cancelled.
        """
        with self._decoder.open(self.prompt) as sequences:
            self._sequences = sequences
            self._queued()
            if len(sequences) == 1:
                last = await self._choices[0].decode(sequences[0], emit)
            else:
                last = await self._decode_all(sequences, emit)
        usage = Usage(len(self.prompt.token_ids), self.made)
        figures = self.figures(trio.current_time())
        told = (last.finish_reason, usage, last.through, last.tokens, last.cut, last.choice)
        return Finished(*told, figures)

    async def _decode_all(self, sequences: list[TokenSequence], emit: Emit) -> Ended:
        """Each choice in a task of its own, so that each is stopped by its own reader only."""
        ended = [choice.before.ended for choice in self._choices if choice.before.ended]
        errors: list[PenstockError] = []

        async def decode(choice: Choice, sequence: TokenSequence) -> None:
            try:
                ended.append(await choice.decode(sequence, emit))
            except PenstockError as error:
                # Not through the nursery: two that fail at once, or one that fails while all are
                # cancelled, would come out as a group.
                errors.append(error)
                nursery.cancel_scope.cancel()
                return
            if len(ended) < len(sequences):
                await emit(ended[-1])

        async with trio.open_nursery() as nursery:
            for choice, sequence in zip(self._choices, sequences, strict=True):
                if choice.before.ended:
                    choice.made = choice.before.ended.through
                    sequence.close()
                else:
                    nursery.start_soon(decode, choice, sequence)
        if errors:
            raise errors[0]
        return ended[-1]


def _follow(prompt: Prompt, before: Sequence[Progress]) -> Matcher | None:
    """Where an answer begins in its grammar, for one that is made again."""
    if not before or prompt.constraint is None:
        return None
    matcher: Matcher = prompt.constraint.start()
    return matcher
