"""A live generation as a source of events: tokens in, text out, one ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from penstock.decoder import Decoder
from penstock.engine.text import TextStream
from penstock.events import Delta, Finished, FinishReason, Token, Usage
from penstock.pipeline import Emit
from penstock.reader import TokenSequence
from penstock.requests import Prompt


@dataclass(slots=True)
class Generation:
    """Decodes `prompt` and emits its text. Call it once."""

    decoder: Decoder
    prompt: Prompt
    text: TextStream
    queued: Callable[[], None] = lambda: None
    """Called once the sequence waits for its slot."""
    made: int = 0
    """Tokens taken from the decoder so far."""
    seated_s: float | None = None
    first_s: float | None = None
    """When the slot was given and when the first token came, in Trio's time."""
    _unsent: list[Token] = field(default_factory=list)

    async def __call__(self, emit: Emit) -> Finished:
        """Emit text until the generation ends.

        Resource handling: the slot is free when this returns or raises, also when it is cancelled.
        """
        with self.decoder.open(self.prompt) as sequence:
            self.queued()
            reason = await self._decode(sequence, emit)
        if rest := self.text.flush():
            await emit(self._delta(rest))
        usage = Usage(len(self.prompt.token_ids), self.made)
        cut = self.text.stopped
        return Finished("stop" if cut else reason, usage, self.made, self._take(), cut)

    async def _decode(self, sequence: TokenSequence, emit: Emit) -> FinishReason:
        while True:
            sampled = await sequence.next_token()
            if not self.made:
                self.seated_s, self.first_s = sequence.entry.seated_s, trio.current_time()
            self.made += 1
            self._unsent.append(sampled)
            if piece := self.text.push(sampled.token_id):
                await emit(self._delta(piece))
            if self.text.stopped:
                return "stop"
            if sampled.end is not None:
                return sampled.end

    def _delta(self, text: str) -> Delta:
        return Delta(text, self._take(), self.made)

    def _take(self) -> tuple[Token, ...]:
        tokens, self._unsent = tuple(self._unsent), []
        return tokens
