"""One call of a tool, read as it is written: `{"name": …, "arguments": {…}}`.

Arguments are passed on as they come, character for character, as soon as the name is known.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator
from typing import TypeAlias

NAME = "name"
ARGUMENTS = ("arguments", "parameters")
SPACE = " \t\r\n"

Reader: TypeAlias = Generator[None, str, str]
"""Is sent one character at a time; returns the first that it does not take, or nothing."""


class NotACallError(ValueError):
    """The text is something else."""


class CallScanner:
    """Reads one call. `name` is None until it is known; `arguments` holds what is to be taken."""

    def __init__(self, names: Collection[str]) -> None:
        self.name: str | None = None
        self.done = False
        self._names = names
        self._pending: list[str] = []
        self._has_arguments = False
        self._machine = self._object()
        next(self._machine)

    def push(self, character: str) -> None:
        """Raises `NotACallError`."""
        try:
            self._machine.send(character)
        except StopIteration:
            self.done = True

    def take(self) -> str:
        """The arguments since the last time; nothing before the name is known."""
        if self.name is None:
            return ""
        taken = "".join(self._pending)
        self._pending.clear()
        return taken

    def _object(self) -> Reader:
        character = yield from _skip((yield))
        _expect(character == "{")
        character = yield from _skip((yield))
        while character != "}":
            _expect(character == '"')
            key = _text((yield from _string([])))
            _expect((yield from _skip((yield))) == ":")
            character = yield from _skip((yield))
            character = yield from self._field(key, character)
            character = yield from _skip(character or (yield))
            _expect(character in ("}", ","))
            if character == ",":
                character = yield from _skip((yield))
                _expect(character == '"')
        _expect(self.name is not None)
        if not self._has_arguments:
            self._pending.append("{}")
        return ""

    def _field(self, key: str, first: str) -> Reader:
        if key == NAME:
            _expect(first == '"')
            name = _text((yield from _string([])))
            _expect(name in self._names)
            self.name = name
            return ""
        if key not in ARGUMENTS:
            return (yield from _value(first, []))
        _expect(first in '{"')
        self._has_arguments = True
        if first != '"':
            return (yield from _value(first, self._pending))
        self._pending.append(_text((yield from _string([]))))
        return ""


def _expect(condition: bool) -> None:
    if not condition:
        raise NotACallError


def _skip(character: str) -> Reader:
    while character in SPACE:
        character = yield
    return character


def _string(raw: list[str]) -> Reader:
    """The rest of a string, behind its opening quote; returns all of it. `raw` gets it, too."""
    taken = ['"']
    escaped = False
    while True:
        character = yield
        taken.append(character)
        raw.append(character)
        if character == '"' and not escaped:
            return "".join(taken)
        escaped = character == "\\" and not escaped


def _value(first: str, raw: list[str]) -> Reader:
    """Any value that begins with `first`; `raw` gets its characters as they come."""
    raw.append(first)
    if first == '"':
        yield from _string(raw)
        return ""
    if first not in "{[":
        return (yield from _scalar(raw))
    depth = 1
    while depth:
        character = yield
        raw.append(character)
        if character == '"':
            yield from _string(raw)
        depth += (character in "{[") - (character in "}]")
    return ""


def _scalar(raw: list[str]) -> Reader:
    while (character := (yield)) not in SPACE + ",}]":
        raw.append(character)
    return character


def _text(raw: str) -> str:
    try:
        return str(json.loads(raw, strict=False))
    except ValueError:
        raise NotACallError from None
