"""Anthropic's answers: named events of a stream, or one object at the end.

A stream's `message_start` goes out before the prompt's tokens are told here, so it says 0 of them;
`message_delta`, whose counts are totals that overwrite those before, says how many there were.
"""

from __future__ import annotations

from dataclasses import dataclass
from json import dumps
from typing import Any

from penstock.events import Delta, Ended, Event, Failed, Finished, Usage
from penstock.protocols import sse
from penstock.protocols.anthropic import tell_error

_REASONS = {"stop": "end_turn", "length": "max_tokens"}
_BEFORE = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":'
)
_PING = sse.named("ping", '{"type":"ping"}')


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


class StreamEncoder:
    """Events to server-sent events: one block of text, opened with the first event."""

    def __init__(self, head: Head) -> None:
        self._opening = _start(head)

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                return self._open() + _BEFORE + f"{dumps(text)}}}}}\n\n".encode("ascii")
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                return self._open() + _end(event)
            case Failed(error):
                return sse.named("error", tell_error(error)[1])

    def heartbeat(self) -> bytes:
        return _PING

    def _open(self) -> bytes:
        opening, self._opening = self._opening, b""
        return opening


class WholeEncoder:
    """Events to one JSON object."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._pieces: list[str] = []

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._pieces.append(text)
                return b""
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                content = [{"type": "text", "text": "".join(self._pieces)}]
                told = self._head.message(
                    content=content, **_stop(event), usage=_usage(event.usage)
                )
                return sse.dump(told).encode("ascii")
            case Failed(error):
                return tell_error(error)[1].encode("ascii")

    def heartbeat(self) -> bytes:
        return b""


def _start(head: Head) -> bytes:
    nothing = {"stop_reason": None, "stop_sequence": None}
    message = head.message(content=[], **nothing, usage=_usage(Usage(0, 0)))
    block = {"type": "text", "text": ""}
    return _event("message_start", message=message) + _event(
        "content_block_start", index=0, content_block=block
    )


def _end(finished: Finished) -> bytes:
    return (
        _event("content_block_stop", index=0)
        + _event("message_delta", delta=_stop(finished), usage=_usage(finished.usage))
        + _event("message_stop")
    )


def _event(name: str, **fields: object) -> bytes:
    return sse.named(name, sse.dump({"type": name, **fields}))


def _stop(finished: Finished) -> dict[str, Any]:
    reason = _REASONS.get(finished.finish_reason, finished.finish_reason)
    return {
        "stop_reason": "stop_sequence" if finished.cut else reason,
        "stop_sequence": finished.cut,
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
