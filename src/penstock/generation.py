"""A live generation as a source of events: tokens in, text out, one ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from penstock.decoder import Decoder
from penstock.engine.text import TextStream
from penstock.errors import reraise_single
from penstock.events import Delta, Ended, Finished, FinishReason, Token, Usage
from penstock.pipeline import Emit
from penstock.reader import TokenSequence
from penstock.requests import Prompt


@dataclass(slots=True)
class Choice:
    """One answer: turns the tokens of one sequence into text."""

    number: int
    text: TextStream
    made: int = 0
    """Tokens taken from the decoder so far."""
    _unsent: list[Token] = field(default_factory=list)

    async def decode(self, sequence: TokenSequence, emit: Emit) -> Ended:
        """Emit text until the answer ends; the slot is free before its last text is taken."""
        reason, piece = await self._decode(sequence, emit)
        sequence.close()
        if rest := piece + self.text.flush():
            await emit(self._delta(rest, settled=False))
        cut = self.text.stop
        return Ended("stop" if cut else reason, self.made, self._take(), cut, self.number)

    async def _decode(self, sequence: TokenSequence, emit: Emit) -> tuple[FinishReason, str]:
        """Why it ended, and what its last token has completed."""
        while True:
            sampled = await sequence.next_token()
            self.made += 1
            self._unsent.append(sampled)
            piece = self.text.push(sampled.token_id)
            if self.text.stop is not None:
                return "stop", piece
            if sampled.end is not None:
                return sampled.end, piece
            if piece:
                await emit(self._delta(piece, settled=not self.text.holding))

    def _delta(self, text: str, *, settled: bool) -> Delta:
        return Delta(text, self._take(), self.made, self.number, settled)

    def _take(self) -> tuple[Token, ...]:
        tokens, self._unsent = tuple(self._unsent), []
        return tokens


class Generation:
    """Decodes `prompt` and emits the text of each choice. Call it once.

    `queued` is called once its sequences wait for their slots.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompt: Prompt,
        new_text: Callable[[], TextStream],
        queued: Callable[[], None] = lambda: None,
    ) -> None:
        self.prompt = prompt
        self._decoder = decoder
        self._queued = queued
        self._choices = [Choice(number, new_text()) for number in range(prompt.n)]

    @property
    def made(self) -> int:
        """Tokens taken from the decoder so far, those of all choices together."""
        return sum(choice.made for choice in self._choices)

    async def __call__(self, emit: Emit) -> Finished:
        """Emit text until the last choice has ended.

        Resource handling: all slots are free when this returns or raises, or is cancelled.
        """
        with self._decoder.open(self.prompt) as sequences:
            self._queued()
            if len(sequences) == 1:
                last = await self._choices[0].decode(sequences[0], emit)
            else:
                last = await self._decode_all(sequences, emit)
        usage = Usage(len(self.prompt.token_ids), self.made)
        return Finished(last.finish_reason, usage, last.through, last.tokens, last.cut, last.choice)

    async def _decode_all(self, sequences: list[TokenSequence], emit: Emit) -> Ended:
        """Each choice in a task of its own, so that each is stopped by its own reader only."""
        ended: list[Ended] = []

        async def decode(choice: Choice, sequence: TokenSequence) -> None:
            ended.append(await choice.decode(sequence, emit))
            if len(ended) < len(sequences):
                await emit(ended[-1])

        try:
            async with trio.open_nursery() as nursery:
                for choice, sequence in zip(self._choices, sequences, strict=True):
                    nursery.start_soon(decode, choice, sequence)
        except BaseExceptionGroup as group:
            reraise_single(group)
        return ended[-1]
