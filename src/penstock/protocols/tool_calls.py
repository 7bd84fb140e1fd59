"""Calls of tools, found in an answer's text as it comes.

Never half a marker is given out: text that may become one is held back. What looked like a call
and is none, or calls what was not offered, is content after all, every character of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum, auto

from penstock.protocols.call_scanner import CallScanner, NotACallError
from penstock.protocols.parts import Arguments, Call, Content, Part, overlap
from penstock.protocols.tool_formats import CallFormat


class State(Enum):
    START = auto()
    """Without a marker, a call can begin only here."""
    CONTENT = auto()
    CALL = auto()
    BETWEEN = auto()
    """Behind a call, where an end marker or another call may follow."""


class CallParser:
    """Text in, content and calls out, the same however the text is cut into pieces."""

    def __init__(self, form: CallFormat, names: Collection[str]) -> None:
        self.calls = 0
        self._form = form
        self._names = names
        self._state = State.CONTENT if form.begin else State.START
        self._held = ""
        self._raw = ""
        """What was read of a call, as long as it may turn out to be none."""
        self._scanner: CallScanner | None = None
        self._in_list = False

    def push(self, text: str) -> list[Part]:
        self._held += text
        return [*self._read(ended=False)]

    def flush(self) -> list[Part]:
        """What was held back, once nothing can follow it."""
        parts = [*self._read(ended=True)]
        if self._raw and (self._scanner is None or self._scanner.name is None):
            parts.append(Content(self._raw))
        return parts

    def _read(self, *, ended: bool) -> Iterator[Part]:
        """Until there is nothing more to be said about what is held."""
        before = None
        while self._held and before != (self._state, self._held):
            before = (self._state, self._held)
            match self._state:
                case State.START:
                    self._start(ended)
                case State.CONTENT:
                    yield from self._content(ended)
                case State.CALL:
                    yield from self._call()
                case State.BETWEEN:
                    self._between(ended)

    def _start(self, ended: bool) -> None:
        body = self._held.lstrip()
        tag = self._form.tag
        if tag and body.startswith(tag):
            body = body.removeprefix(tag).lstrip()
        elif tag and tag.startswith(body) and not ended:
            return
        if body.startswith("{"):
            self._begin(len(self._held) - len(body))
        elif body or ended:
            self._state = State.CONTENT

    def _content(self, ended: bool) -> Iterator[Part]:
        begin = self._form.begin
        at = self._held.find(begin) if begin else -1
        if at >= 0:
            content = self._held[:at].rstrip()
            self._begin(at + len(begin), len(content))
        else:
            keep = 0 if ended or not begin else _undecided(self._held, begin)
            content = self._held[: len(self._held) - keep]
            self._held = self._held[len(content) :]
        # Space around calls is a part of their format.
        if content and not (self.calls and content.isspace()):
            yield Content(content)

    def _begin(self, end: int, start: int = 0) -> None:
        """A call begins at `end`; if it is none, what stands from `start` on is content."""
        self._raw, self._held = self._held[start:end], self._held[end:]
        self._state, self._scanner = State.CALL, None

    def _call(self) -> Iterator[Part]:
        for place, character in enumerate(self._held):
            if self._scanner is None and self._opens_list(character):
                self._raw += character
                continue
            scanner = self._scanner = self._scanner or CallScanner(self._names)
            known = scanner.name
            try:
                scanner.push(character)
            except NotACallError:
                yield from self._give_up(scanner, place)
                return
            self._raw += character
            if known is None and scanner.name is not None:
                yield self._called(scanner.name)
            if scanner.done:
                self._held, self._raw, self._state = self._held[place + 1 :], "", State.BETWEEN
                yield from self._arguments(scanner)
                return
        self._held = ""
        if self._scanner is not None:
            yield from self._arguments(self._scanner)

    def _opens_list(self, character: str) -> bool:
        opens = self._form.listed and not self._in_list and character == "["
        self._in_list = self._in_list or opens
        return opens or character.isspace()

    def _called(self, name: str) -> Call:
        self.calls += 1
        return Call(self.calls - 1, name)

    def _arguments(self, scanner: CallScanner) -> Iterator[Part]:
        if taken := scanner.take():
            self._raw = ""
            yield Arguments(self.calls - 1, taken)

    def _give_up(self, scanner: CallScanner, place: int) -> Iterator[Part]:
        """What was told of a call stays told; the rest is content."""
        yield from self._arguments(scanner)
        raw = "" if scanner.name is not None else self._raw
        self._held, self._raw = self._held[place:], ""
        self._state, self._in_list = State.CONTENT, False
        if raw:
            yield Content(raw)

    def _between(self, ended: bool) -> None:
        body = self._held.lstrip()
        end = self._form.end
        if self._in_list and body.startswith((",", "]")):
            self._in_list = body[0] == ","
            self._held = body[1:]
            self._state, self._scanner = State.CALL, None
            if not self._in_list:
                self._state = State.CONTENT
        elif end and body.startswith(end):
            self._held, self._state = body.removeprefix(end), State.CONTENT
        elif not self._form.begin and body.startswith((";", "{")):
            self._held, self._state = body.removeprefix(";"), State.START
        elif ended or not end.startswith(body):
            self._state, self._in_list = State.CONTENT, False


def _undecided(text: str, marker: str) -> int:
    """Length of the end of `text` that may belong to a marker, or be the space before one."""
    rest = text[: len(text) - overlap(text, marker)]
    return len(text) - len(rest.rstrip())
