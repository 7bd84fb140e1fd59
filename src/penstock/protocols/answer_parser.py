"""From an answer's text to its parts: first thoughts, then content and calls of tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock.protocols.parts import Content, Part
from penstock.protocols.thinking import ThinkingParser
from penstock.protocols.tool_calls import CallParser


class AnswerParser:
    """The parts of one answer, each piece as soon as it is known what it belongs to."""

    def __init__(self, thinking: ThinkingParser | None, calls: CallParser | None) -> None:
        self._thinking = thinking
        self._calls = calls

    @property
    def called(self) -> bool:
        """Whether the answer calls a tool."""
        return self._calls is not None and self._calls.calls > 0

    def push(self, text: str) -> list[Part]:
        thought = self._thinking.push(text) if self._thinking else [Content(text)]
        return [*self._search(thought)]

    def flush(self) -> list[Part]:
        """What was held back, once nothing can follow it."""
        parts = [*self._search(self._thinking.flush() if self._thinking else [])]
        return parts + (self._calls.flush() if self._calls else [])

    def _search(self, parts: Iterable[Part]) -> Iterator[Part]:
        for part in parts:
            if self._calls and isinstance(part, Content):
                yield from self._calls.push(part.text)
            else:
                yield part
