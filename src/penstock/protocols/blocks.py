"""An answer as a row of blocks, each of one kind, for dialects that open and close them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.parts import Arguments, Call, Content, Part, Reasoning

Kind: TypeAlias = Literal["text", "thoughts", "call"]


@dataclass(slots=True)
class Block:
    """Text, thoughts, or one call with its arguments. `index` counts the blocks from 0."""

    index: int
    kind: Kind
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Opened:
    block: Block


@dataclass(frozen=True, slots=True)
class Grown:
    block: Block
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    block: Block


Step: TypeAlias = Opened | Grown | Closed


class Blocks:
    """Text in, steps out. Without a `parser` an answer is nothing but text.

    The blocks follow each other: one is closed before the next is opened.
    """

    def __init__(self, parser: AnswerParser | None = None) -> None:
        self.row: list[Block] = []
        self._parser = parser
        self._open: Block | None = None

    @property
    def called(self) -> bool:
        """Whether the answer calls a tool."""
        return self._parser is not None and self._parser.called

    def push(self, text: str) -> Iterator[Step]:
        return self._take(self._parser.push(text) if self._parser else (Content(text),))

    def end(self) -> Iterator[Step]:
        """The rest. An answer without anything has one block of no text."""
        yield from self._take(self._parser.flush() if self._parser else ())
        if not self.row:
            yield from self._begin("text")
        yield from self._close()

    def _take(self, parts: Iterable[Part]) -> Iterator[Step]:
        for part in parts:
            match part:
                case Content(text):
                    yield from self._grow("text", text)
                case Reasoning(text):
                    yield from self._grow("thoughts", text)
                case Call(_, name):
                    yield from self._begin("call", name)
                case Arguments(_, text):
                    yield from self._grow("call", text)

    def _grow(self, kind: Kind, text: str) -> Iterator[Step]:
        if self._open is None or self._open.kind != kind:
            yield from self._begin(kind)
        assert self._open is not None
        self._open.pieces.append(text)
        yield Grown(self._open, text)

    def _begin(self, kind: Kind, name: str = "") -> Iterator[Step]:
        yield from self._close()
        self._open = Block(len(self.row), kind, name)
        self.row.append(self._open)
        yield Opened(self._open)

    def _close(self) -> Iterator[Step]:
        closed, self._open = self._open, None
        if closed is not None:
            yield Closed(closed)


def read(text: str, parser: AnswerParser | None) -> Blocks:
    """The blocks of a whole answer."""
    blocks = Blocks(parser)
    for _ in (*blocks.push(text), *blocks.end()):
        """Only where they lead matters."""
    return blocks


def read_arguments(text: str) -> object:
    """A call's arguments; those of a call that was cut short are none."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
