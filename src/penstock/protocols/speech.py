"""How one model writes what is more than plain text: calls of tools, and thoughts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.thinking import ThinkingParser
from penstock.protocols.tool_calls import CallParser
from penstock.protocols.tool_formats import BARE, CallFormat
from penstock.protocols.tools import tool_grammar
from penstock.requests import GenerateRequest, Grammar


@dataclass(frozen=True, slots=True)
class Speech:
    """`special` gives the id of a marker that is a token which no text can spell."""

    calls: CallFormat = BARE
    thinks: bool = False
    opens_thinking: bool = False
    special: Callable[[str], int | None] = field(default=lambda text: None)

    def grammar(self, request: GenerateRequest) -> Grammar | None:
        """What the answer must look like, where something is said about that."""
        if request.tools is not None and request.tools.forced:
            return tool_grammar(request.tools, self.calls, self.special)
        return request.grammar

    def parsers(self, request: GenerateRequest) -> list[AnswerParser]:
        """One for each answer, or none where an answer is nothing but text."""
        if request.tools is None and not self.thinks:
            return []
        return [self._parser(request) for _ in range(request.n)]

    def parser(self, request: GenerateRequest) -> AnswerParser | None:
        """That of the only answer, or None where it is nothing but text."""
        return next(iter(self.parsers(request)), None)

    def shown(self, request: GenerateRequest) -> Mapping[int, str]:
        """Special tokens that the parsers look for in the text."""
        if request.tools is None:
            return {}
        found = {self.special(marker): marker for marker in self.calls.markers}
        return {token_id: marker for token_id, marker in found.items() if token_id is not None}

    def _parser(self, request: GenerateRequest) -> AnswerParser:
        tools = request.tools
        # A grammar leaves no room for thoughts, not even for the end of those that were begun.
        bound = self.grammar(request) is not None
        thinking = ThinkingParser(opened=self.opens_thinking) if self.thinks and not bound else None
        return AnswerParser(thinking, CallParser(self.calls, tools.names) if tools else None)
