"""Log probabilities in OpenAI's two shapes: each token's entry once, with the text it completes.

An entry waits until all text of its token is out, so it never tells of text that is held back as
a possible stop string. Tokens that lie beyond a stop string's cut are not told at all.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from penstock.events import Delta, Ended, Finished, Token

Spell: TypeAlias = Callable[[int], tuple[str, bytes]]
"""What to call a token id, and the bytes that it adds to the text."""
Render: TypeAlias = Callable[[Sequence["Entry"], Spell], dict[str, Any]]

LEAST = -9999.0
"""JSON has no infinity; this is what OpenAI says for a token that cannot be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A token and where its text lies in the answer, in characters."""

    token: Token
    name: str
    raw: bytes
    start: int
    end: int


class Logprobs:
    """The entries of one answer, in order. `render` is `chat_logprobs` or `text_logprobs`."""

    def __init__(self, render: Render, spell: Spell) -> None:
        self._render = render
        self._spell = spell
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._waiting: deque[Entry] = deque()
        self._read = 0
        self._sent = 0

    def hold(self, delta: Delta) -> None:
        """Keep the entries of a delta for later."""
        self._sent += len(delta.text)
        self._add(delta.tokens)

    def delta(self, delta: Delta) -> dict[str, Any] | None:
        """What goes out with a delta.

        A token without text waits for text behind it: the answer may be cut just before that.
        """
        self.hold(delta)
        return self._told(lambda entry: entry.start < self._sent and entry.end <= self._sent)

    def ended(self, ended: Ended | Finished) -> dict[str, Any] | None:
        """What goes out with the end."""
        self._add(ended.tokens)
        return self._told(lambda entry: not ended.cut or entry.start < self._sent)

    def _add(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            name, raw = self._spell(token.token_id)
            start = self._read + self._breaks(raw)
            self._read += len(self._decoder.decode(raw))
            self._waiting.append(Entry(token, name, raw, start, self._read))

    def _breaks(self, raw: bytes) -> bool:
        """Whether `raw` leaves a character unfinished, which is then read as one of its own."""
        unfinished = self._decoder.getstate()[0]
        return bool(unfinished and raw) and not 0x80 <= raw[0] < 0xC0

    def _told(self, due: Callable[[Entry], bool]) -> dict[str, Any] | None:
        entries = []
        while self._waiting and due(self._waiting[0]):
            entries.append(self._waiting.popleft())
        return self._render(entries, self._spell) if entries else None


def chat_logprobs(entries: Sequence[Entry], spell: Spell) -> dict[str, Any]:
    """`logprobs` of a chat completion's choice."""
    content = [
        _described(entry.name, entry.raw, entry.token.logprob)
        | {"top_logprobs": [_described(*spell(id_), value) for id_, value in entry.token.top]}
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def text_logprobs(entries: Sequence[Entry], spell: Spell) -> dict[str, Any]:
    """`logprobs` of a text completion's choice; offsets count from the start of its text."""
    return {
        "tokens": [entry.name for entry in entries],
        "token_logprobs": [_finite(entry.token.logprob) for entry in entries],
        "top_logprobs": [
            {spell(id_)[0]: _finite(value) for id_, value in entry.token.top} for entry in entries
        ],
        "text_offset": [entry.start for entry in entries],
    }


def _described(name: str, raw: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": name, "logprob": _finite(logprob), "bytes": list(raw)}


def _finite(logprob: float | None) -> float:
    return max(LEAST if logprob is None else logprob, LEAST)
