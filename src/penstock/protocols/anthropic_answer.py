"""Anthropic's answers: named events of a stream, or one object at the end.

An answer is a row of blocks: thoughts, text, and calls of tools, each opened, filled and closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from json import dumps
from typing import Any

from penstock.events import Delta, Ended, Event, Failed, Finished, Usage
from penstock.protocols import sse
from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.anthropic import tell_error
from penstock.protocols.blocks import (
    Block,
    Blocks,
    Closed,
    Grown,
    Opened,
    Step,
    read,
    read_arguments,
)
from penstock.protocols.parts import call_id

_REASONS = {"stop": "end_turn", "length": "max_tokens"}
_PING = sse.named("ping", '{"type":"ping"}')
_DELTAS = {
    "text": '"text_delta","text":',
    "thoughts": '"thinking_delta","thinking":',
    "call": '"input_json_delta","partial_json":',
}


@dataclass(frozen=True, slots=True)
class Head:
    """What names one answer."""

    number: str
    model: str

    def message(self, **rest: object) -> dict[str, Any]:
        return {
            "id": f"msg_{self.number}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            **rest,
        }

    def block(self, block: Block, content: object) -> dict[str, Any]:
        """`content` is its text, or the arguments of a call."""
        if block.kind == "text":
            return {"type": "text", "text": content}
        if block.kind == "thoughts":
            return {"type": "thinking", "thinking": content, "signature": ""}
        named = {"id": f"toolu_{call_id(self.number, block.index)}", "name": block.name}
        return {"type": "tool_use", **named, "input": content}


class StreamEncoder:
    """Events to server-sent events. `prompt_tokens` is asked when the first event is told."""

    def __init__(
        self,
        head: Head,
        *,
        parser: AnswerParser | None = None,
        prompt_tokens: Callable[[], int] = lambda: 0,
    ) -> None:
        self._head = head
        self._blocks = Blocks(parser)
        self._prompt_tokens = prompt_tokens
        self._begun = False

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                steps = b"".join(map(self._step, self._blocks.push(text)))
                return self._begin() + steps if steps else b""
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                steps = b"".join(map(self._step, self._blocks.end()))
                return self._begin() + steps + self._end(event)
            case Failed(error):
                return sse.named("error", tell_error(error)[1])

    def heartbeat(self) -> bytes:
        return _PING

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        nothing = {"stop_reason": None, "stop_sequence": None}
        usage = _usage(Usage(self._prompt_tokens(), 0))
        return _event(
            "message_start", message=self._head.message(content=[], **nothing, usage=usage)
        )

    def _step(self, step: Step) -> bytes:
        index = step.block.index
        match step:
            case Opened(block):
                empty = self._head.block(block, {} if block.kind == "call" else "")
                return _event("content_block_start", index=index, content_block=empty)
            case Grown(block, text):
                told = f'"index":{index},"delta":{{"type":{_DELTAS[block.kind]}{dumps(text)}}}'
                return sse.named("content_block_delta", f'{{"type":"content_block_delta",{told}}}')
            case Closed():
                return _event("content_block_stop", index=index)

    def _end(self, finished: Finished) -> bytes:
        stop = _stop(finished, called=self._blocks.called)
        return _event("message_delta", delta=stop, usage=_usage(finished.usage)) + _event(
            "message_stop"
        )


class WholeEncoder:
    """Events to one JSON object."""

    def __init__(self, head: Head, *, parser: AnswerParser | None = None) -> None:
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
                return sse.dump(self._whole(event)).encode("ascii")
            case Failed(error):
                return tell_error(error)[1].encode("ascii")

    def heartbeat(self) -> bytes:
        return b""

    def _whole(self, finished: Finished) -> dict[str, Any]:
        blocks = read("".join(self._pieces), self._parser)
        return self._head.message(
            content=self._content(blocks.row),
            **_stop(finished, called=blocks.called),
            usage=_usage(finished.usage),
        )

    def _content(self, row: Iterable[Block]) -> list[dict[str, Any]]:
        return [
            self._head.block(
                block, read_arguments(block.text) if block.kind == "call" else block.text
            )
            for block in row
        ]


def _event(name: str, **fields: object) -> bytes:
    return sse.named(name, sse.dump({"type": name, **fields}))


def _stop(finished: Finished, *, called: bool) -> dict[str, Any]:
    reason = _REASONS.get(finished.finish_reason, finished.finish_reason)
    if finished.cut:
        reason = "stop_sequence"
    elif called and finished.finish_reason == "stop":
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": finished.cut}


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
