"""What a model thinks before it answers, told apart from the answer."""

from __future__ import annotations

from enum import Enum, auto

from penstock.protocols.parts import Content, Part, Reasoning, overlap

BEGIN, END = "<think>", "</think>"


class State(Enum):
    START = auto()
    THINKING = auto()
    PAUSE = auto()
    """Behind the thoughts, where only space was written yet."""
    ANSWER = auto()


class ThinkingParser:
    """Text in, reasoning and content out, the same however the text is cut into pieces.

    `opened` says that the prompt ended with the begin marker, so that the answer starts behind it.
    """

    def __init__(self, *, opened: bool) -> None:
        self._state = State.THINKING if opened else State.START
        self._held = ""

    def push(self, text: str) -> list[Part]:
        self._held += text
        return self._read(ended=False)

    def flush(self) -> list[Part]:
        """What was held back, once nothing can follow it."""
        return self._read(ended=True)

    def _read(self, *, ended: bool) -> list[Part]:
        if self._state is State.START:
            self._start(ended)
        parts: list[Part] = []
        if self._state is State.THINKING and (thought := self._think(ended)):
            parts.append(Reasoning(thought))
        if self._state is State.PAUSE:
            self._held = self._held.lstrip()
            self._state = State.ANSWER if self._held else State.PAUSE
        if self._state is State.ANSWER and self._held:
            parts.append(Content(self._held))
            self._held = ""
        return parts

    def _start(self, ended: bool) -> None:
        body = self._held.lstrip()
        if body.startswith(BEGIN):
            self._held, self._state = body.removeprefix(BEGIN), State.THINKING
        elif ended or not BEGIN.startswith(body):
            self._state = State.ANSWER

    def _think(self, ended: bool) -> str:
        thought, marker, rest = self._held.partition(END)
        if marker:
            self._held, self._state = rest, State.PAUSE
            return thought
        keep = 0 if ended else overlap(self._held, END)
        thought = self._held[: len(self._held) - keep]
        self._held = self._held[len(thought) :]
        return thought
