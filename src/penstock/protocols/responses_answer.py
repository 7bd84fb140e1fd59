"""OpenAI's responses: typed events of a stream, numbered from 0, or one object at the end."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from penstock.errors import PenstockError
from penstock.events import Delta, Ended, Event, Failed, Finished
from penstock.protocols import sse
from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.blocks import Block, Blocks, Closed, Grown, Opened, Step, read
from penstock.protocols.openai import dump_error
from penstock.protocols.responses_head import Head, render_part, status_of

_NAMES = {"text": "output_text", "thoughts": "reasoning_text", "call": "function_call_arguments"}


class StreamEncoder:
    """Events to server-sent events: each item of the output is opened, filled and closed.

    Who has read events up to number `after` gets those behind it, and the last in any case.
    """

    def __init__(self, head: Head, parser: AnswerParser | None = None, *, after: int = -1) -> None:
        self._head = head
        self._blocks = Blocks(parser)
        self._numbers = count()
        self._after = after
        self._opened = False

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                opening = self._open()
                return opening + b"".join(self._step(step) for step in self._blocks.push(text))
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                opening, status = self._open(), status_of(event)
                rest = b"".join(self._step(step, status) for step in self._blocks.end())
                return opening + rest + self._terminal(self._head.ended(event, self._blocks))
            case Failed(error):
                return self._open() + self._fail(error)

    def heartbeat(self) -> bytes:
        return sse.KEEP_ALIVE

    def _open(self) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        response = {"response": self._head.response("in_progress")}
        return self._event("created", response) + self._event("in_progress", response)

    def _step(self, step: Step, last: str = "completed") -> bytes:
        match step:
            case Opened(block):
                return self._begin(block)
            case Grown(block, text):
                logprobs: dict[str, Any] = {"logprobs": []} if block.kind == "text" else {}
                told = {**self._place(block), "delta": text, **logprobs}
                return self._event(f"{_NAMES[block.kind]}.delta", told)
            case Closed(block):
                return self._close(block, last)

    def _begin(self, block: Block) -> bytes:
        item = self._head.item(block, "in_progress")
        added = self._event("output_item.added", {"output_index": block.index, "item": item})
        if block.kind == "call":
            return added
        part = {**self._place(block), "part": render_part(block, [])}
        return added + self._event("content_part.added", part)

    def _close(self, block: Block, status: str) -> bytes:
        place = self._place(block)
        item = {"output_index": block.index, "item": self._head.item(block, status)}
        if block.kind == "call":
            told = {**place, "name": block.name, "arguments": block.text}
            filled = self._event("function_call_arguments.done", told)
        else:
            logprobs: dict[str, Any] = {"logprobs": []} if block.kind == "text" else {}
            told = {**place, "text": block.text, **logprobs}
            filled = self._event(f"{_NAMES[block.kind]}.done", told) + self._event(
                "content_part.done", {**place, "part": render_part(block)}
            )
        return filled + self._event("output_item.done", item)

    def _place(self, block: Block) -> dict[str, Any]:
        place = {"item_id": self._head.item_id(block), "output_index": block.index}
        return place if block.kind == "call" else {**place, "content_index": 0}

    def _fail(self, error: PenstockError) -> bytes:
        """One that was cancelled has failed, too: there is no event of its own for that."""
        told = {"code": error.kind.code, "message": error.message}
        return self._terminal(self._head.response("failed", error=told))

    def _terminal(self, response: Mapping[str, Any]) -> bytes:
        self._after = -1
        return self._event(str(response["status"]), {"response": response})

    def _event(self, name: str, fields: Mapping[str, Any]) -> bytes:
        number = next(self._numbers)
        if number <= self._after:
            return b""
        kind = f"response.{name}"
        return sse.named(kind, sse.dump({"type": kind, "sequence_number": number, **fields}))


class WholeEncoder:
    """Events to one JSON object."""

    def __init__(self, head: Head, parser: AnswerParser | None = None) -> None:
        self._head = head
        self._parser = parser
        self._pieces: list[str] = []

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._pieces.append(text)
                return b""
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                blocks = read("".join(self._pieces), self._parser)
                return sse.dump(self._head.ended(event, blocks)).encode("ascii")
            case Failed(error):
                return dump_error(error).encode("ascii")

    def heartbeat(self) -> bytes:
        return b""
