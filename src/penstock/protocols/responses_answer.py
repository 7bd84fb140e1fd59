"""OpenAI's responses: typed events of a stream, numbered from 0, or one object at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from penstock.errors import PenstockError
from penstock.events import Delta, Ended, Event, Failed, Finished, Usage
from penstock.protocols import sse
from penstock.protocols.openai import dump_error

_PLACE = {"output_index": 0, "content_index": 0}


@dataclass(frozen=True, slots=True)
class Head:
    """What names one answer, and what it repeats of the request. `created` is in s since 1970."""

    number: str
    model: str
    created: int
    repeated: Mapping[str, Any]

    @property
    def item_id(self) -> str:
        return f"msg_{self.number}"

    def response(self, status: str, **rest: object) -> dict[str, Any]:
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "truncation": "disabled",
            "usage": None,
            **self.repeated,
            **rest,
        }

    def item(self, status: str, *content: object) -> dict[str, Any]:
        return {
            "id": self.item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": list(content),
        }

    def ended(self, finished: Finished, text: str) -> dict[str, Any]:
        """The whole response; it is incomplete where it ran into its limit."""
        status, why = "completed", None
        if finished.finish_reason == "length":
            status, why = "incomplete", {"reason": "max_output_tokens"}
        return self.response(
            status,
            incomplete_details=why,
            output=[self.item(status, render_part(text))],
            usage=_usage(finished.usage),
        )


class StreamEncoder:
    """Events to server-sent events: one item with one part of text, opened before the first."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._numbers = count()
        self._opened = False
        self._pieces: list[str] = []

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._pieces.append(text)
                fields = {"item_id": self._head.item_id, **_PLACE, "delta": text, "logprobs": []}
                return self._open() + self._event("response.output_text.delta", fields)
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                return self._open() + self._close(event)
            case Failed(error):
                return self._open() + self._fail(error)

    def heartbeat(self) -> bytes:
        return sse.KEEP_ALIVE

    def _open(self) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        response = {"response": self._head.response("in_progress")}
        item = {"output_index": 0, "item": self._head.item("in_progress")}
        part = {"item_id": self._head.item_id, **_PLACE, "part": render_part("")}
        return (
            self._event("response.created", response)
            + self._event("response.in_progress", response)
            + self._event("response.output_item.added", item)
            + self._event("response.content_part.added", part)
        )

    def _close(self, finished: Finished) -> bytes:
        text = "".join(self._pieces)
        response = self._head.ended(finished, text)
        place = {"item_id": self._head.item_id, **_PLACE}
        done = {"output_index": 0, "item": response["output"][0]}
        return (
            self._event("response.output_text.done", {**place, "text": text, "logprobs": []})
            + self._event("response.content_part.done", {**place, "part": render_part(text)})
            + self._event("response.output_item.done", done)
            + self._event(f"response.{response['status']}", {"response": response})
        )

    def _fail(self, error: PenstockError) -> bytes:
        told = {"code": error.kind.code, "message": error.message}
        response = self._head.response("failed", error=told)
        return self._event("response.failed", {"response": response})

    def _event(self, name: str, fields: Mapping[str, Any]) -> bytes:
        told = {"type": name, "sequence_number": next(self._numbers), **fields}
        return sse.named(name, sse.dump(told))


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
                return sse.dump(self._head.ended(event, "".join(self._pieces))).encode("ascii")
            case Failed(error):
                return dump_error(error).encode("ascii")

    def heartbeat(self) -> bytes:
        return b""


def render_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
