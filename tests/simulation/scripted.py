"""An engine whose tokens are written in advance, and that fails where it is told to.

It watches its caller as the real one cannot: a row that is stepped without a slot is an error, and
so is a slot that is given twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TypeVar
from zlib import crc32

import trio

from penstock.engine.interrupt import Interrupt
from penstock.engine.sequence import Result, Sampled
from penstock.engine.text import TextStream
from penstock.engine.tokenizer import Tokenizer
from penstock.events import FinishReason
from penstock.requests import Prompt
from tests.inline import InlineThread

T = TypeVar("T")

CHUNK = 4
MAX_LEN = 96
TEXTS = (" the", " dog", " ran", ".", " caf\u00e9", "\U0001f600", "\u6f22", "\n\n", " STOP", " a")
"""Some are tokens without text of their own, each a part of a character."""


class Script:
    """What the model will say to each prompt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocabulary = tokenizer.vocabulary
        encode = tokenizer.vocabulary.encode
        self._words = [encode(text, add_special_tokens=False).ids for text in TEXTS]

    def tokens(self, prompt: Prompt) -> list[int]:
        random = Random(crc32(repr((prompt.token_ids, prompt.seed)).encode()))
        tokens: list[int] = []
        while len(tokens) < prompt.max_tokens:
            tokens += random.choice(self._words)
        return tokens[: prompt.max_tokens]

    def pieces(self, prompt: Prompt, stop: tuple[str, ...]) -> tuple[list[str], FinishReason, int]:
        """The events of an undisturbed answer, why it ends, and after how many tokens."""
        text, pieces = TextStream(self.vocabulary, stop), []
        tokens = self.tokens(prompt)
        for number, token in enumerate(tokens, 1):
            pieces.append(text.push(token))
            if text.stop is not None:
                return [piece for piece in pieces if piece], "stop", number
        pieces.append(text.flush())
        ended: FinishReason = "length" if text.stop is None else "stop"
        return [piece for piece in pieces if piece], ended, len(tokens)


@dataclass(slots=True, eq=False)
class ScriptedSequence:
    """`again` of its tokens are to be computed once more: another process has made them before."""

    prompt: Prompt
    tokens: list[int]
    cached: int = 0
    made: int = 0
    again: int = 0

    @property
    def prefilled(self) -> bool:
        return self.cached >= len(self.prompt.token_ids)


class EngineMisusedError(AssertionError):
    """The decoder did what it must not."""


@dataclass
class ScriptedEngine:
    """See `Engine`. `faults` is how often a turn fails, for one sequence or for all in it."""

    script: Script
    slots: int
    random: Random
    faults: float = 0
    max_len: int = MAX_LEN
    seated: dict[ScriptedSequence, None] = field(default_factory=dict)
    failed: set[tuple[tuple[int, ...], int]] = field(default_factory=set)
    misuse: list[str] = field(default_factory=list)
    parked: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(bytes=0, dropped=0))
    prefixes: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(bytes=0, hits=0, misses=0)
    )
    model: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            spec=SimpleNamespace(vocab_size=1 << 12, defaults={}, eos_ids=(0,)),
            file=Path(__file__),
            device="cpu",
        )
    )

    @property
    def cached_tokens(self) -> int:
        return sum(sequence.cached + sequence.made for sequence in self.seated)

    def open_choices(self, prompt: Prompt) -> list[ScriptedSequence]:
        assert prompt.n == 1, "worlds have one answer each"
        tokens, given = self.script.tokens(prompt), len(prompt.given[0]) if prompt.given else 0
        if given and prompt.given[0] != tuple(tokens[:given]):
            self.misuse.append(f"{prompt.given[0]} was never said of {tokens}")
        return [ScriptedSequence(prompt, tokens, made=given, again=given)]

    def admit(self, sequence: ScriptedSequence) -> None:
        if sequence in self.seated or len(self.seated) >= self.slots:
            self.misuse.append("a slot was given that is not free")
        self.seated[sequence] = None

    def evict(self, sequence: ScriptedSequence) -> None:
        self._check(sequence)
        del self.seated[sequence]

    def close(self, sequence: ScriptedSequence) -> None:
        self.seated.pop(sequence, None)

    def prefill(self, sequence: ScriptedSequence, interrupt: Interrupt | None = None) -> Result:
        self._check(sequence)
        if interrupt is not None and interrupt.wanted:
            return None
        if self._fault(sequence):
            raise RuntimeError("planted")
        sequence.cached += CHUNK
        return self._next(sequence) if sequence.prefilled and not sequence.made else None

    def step(self, sequences: Sequence[ScriptedSequence]) -> list[Result]:
        for sequence in sequences:
            self._check(sequence)
        return [
            RuntimeError("planted") if self._fault(sequence) else self._step(sequence)
            for sequence in sequences
        ]

    def _step(self, sequence: ScriptedSequence) -> Result:
        """The last of those that are computed again gives the first new one."""
        sequence.again = max(sequence.again - 1, 0)
        return None if sequence.again else self._next(sequence)

    def _next(self, sequence: ScriptedSequence) -> Result:
        if sequence.made >= len(sequence.tokens):
            self.misuse.append("a token was asked for beyond the last")
            return RuntimeError("misused")
        token = sequence.tokens[sequence.made]
        sequence.made += 1
        last = sequence.made == len(sequence.tokens)
        return Sampled(token, None, (), "length" if last else None)

    def _check(self, sequence: ScriptedSequence) -> None:
        if sequence not in self.seated:
            self.misuse.append("a sequence was computed without a slot")

    def _fault(self, sequence: ScriptedSequence) -> bool:
        if self.random.random() >= self.faults:
            return False
        self.failed.add((sequence.prompt.token_ids, sequence.prompt.seed))
        return True


class TimedThread(InlineThread):
    """Each turn takes one of these times, in virtual seconds."""

    def __init__(self, random: Random, turns_s: tuple[float, ...]) -> None:
        super().__init__()
        self._random = random
        self._turns_s = turns_s

    async def run(self, function: Callable[[], T]) -> T:
        with trio.CancelScope(shield=True):
            await trio.sleep(self._random.choice(self._turns_s))
        return await super().run(function)
