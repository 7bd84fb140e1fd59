"""Grammars over one vocabulary: compiled once, then followed by each sequence for itself.

What a compiled grammar may take is bounded twice. `LIMITS` bound each step; what compiling takes
is not bounded by them (an intersection of a hundred patterns was still running after a minute, a
chain of 10,000 references overflowed the stack), so a grammar from outside is first tried in a
process of its own, see `grammar_child.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import llguidance
from tokenizers import Tokenizer as Vocabulary

from penstock.errors import PenstockError, invalid, unsupported
from penstock.requests import Grammar

LIMITS: Mapping[str, Any] = {
    "initial_lexer_fuel": 500_000,
    "step_lexer_fuel": 50_000,
    "step_max_items": 20_000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 100_000,
    "verbose_errors": False,
}
"""A step's share is about 4 ms; a state takes 1 to 2 kB, so a sequence 40 MB at the most."""

LIBRARY = str(llguidance._lib.__file__)
"""Where the compiled part of llguidance lies."""


class GrammarError(ValueError):
    """A grammar that cannot be compiled. The message is llguidance's, and may quote the input."""


class Matcher:
    """Where one sequence is in its grammar: what may come next, and whether that is its end."""

    def __init__(self, state: llguidance.LLMatcher, param: str, size: int) -> None:
        self.state = state
        self.size = size
        """Ids that its masks cover: the model's and the tokenizer's."""
        self.broken = False
        """llguidance has failed on it otherwise than by an error of its own."""
        self._param = param

    @property
    def finished(self) -> bool:
        """Nothing but an end can follow."""
        return self.state.is_stopped()

    @property
    def error(self) -> PenstockError | None:
        """Why it cannot be followed any further, for the client."""
        if not self.broken and not self.state.is_error():
            return None
        return invalid(
            self._param,
            f"{self._param} allows too much, or nothing, at this point of the answer; simplify it",
        )

    def accept(self, token_id: int) -> None:
        """Go on by one token; afterwards `error` may be set."""
        try:
            self.state.consume_token(token_id)
        except BaseException:  # a panic in Rust is no Exception
            self.broken = True


@dataclass(frozen=True, slots=True, eq=False)
class Constraint:
    """A compiled grammar. Each sequence starts it for itself, which takes microseconds."""

    compiled: llguidance.LLMatcher
    param: str
    size: int

    def start(self) -> Matcher:
        return Matcher(self.compiled.deep_copy(), self.param, self.size)


class Grammars:
    """Compiles for one vocabulary of `size` ids, which may be padded beyond the tokenizer's.

    Making one holds Python's lock: 20 ms at 4,000 words, a second at 150,000. So it is made while
    the model is loaded.
    """

    def __init__(self, vocabulary: Vocabulary, size: int, eos_ids: Iterable[int]) -> None:
        self._vocabulary = vocabulary
        self.size = max(size, 1 + max(vocabulary.get_vocab().values()))
        with suppress(ValueError):  # of a kind that llguidance does not know
            self._tokens: llguidance.LLTokenizer | None = None
            self._tokens = llguidance.LLTokenizer(
                _plain(vocabulary), n_vocab=self.size, eos_token=sorted(eos_ids) or None
            )

    def compile(self, grammar: Grammar) -> Constraint:
        """Drops Python's lock meanwhile. Raises `GrammarError`, or `PenstockError` for any."""
        if self._tokens is None:
            message = f"{grammar.param}: this model's tokenizer cannot be held to a format"
            raise unsupported(grammar.param, message)
        compiled = llguidance.LLMatcher(self._tokens, source(grammar), log_level=0, limits=limits())
        if compiled.is_error():
            raise GrammarError(compiled.get_error())
        return Constraint(compiled, grammar.param, self.size)

    def special(self, text: str) -> int | None:
        """The id of `text`, where it is a token that no text can spell; grammars name it by id."""
        token_id: int | None = self._vocabulary.token_to_id(text)
        if token_id is None or self._tokens is None or not self._tokens.is_special_token(token_id):
            return None
        return token_id


def limits() -> llguidance.LLParserLimits:
    return llguidance.LLParserLimits(**LIMITS)


def source(grammar: Grammar) -> str:
    """`grammar` as llguidance reads it. Raises `GrammarError`."""
    forms = llguidance.LLMatcher
    try:
        match grammar.kind:
            case "json":
                return forms.grammar_from_json_schema(grammar.text)
            case "regex":
                return forms.grammar_from_regex(grammar.text)
            case _:
                return forms.grammar_from_lark(grammar.text)
    except ValueError as error:
        raise GrammarError(str(error)) from None


def _plain(vocabulary: Vocabulary) -> str:
    """The tokenizer's file, without what would pad or cut a text."""
    told = json.loads(vocabulary.to_str())
    return json.dumps(told | {"padding": None, "truncation": None})
