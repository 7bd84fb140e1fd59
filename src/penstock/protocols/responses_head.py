"""OpenAI's responses as objects: a response and the items of its output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.errors import PenstockError
from penstock.events import Finished, Usage
from penstock.protocols.blocks import Block, Blocks
from penstock.protocols.parts import call_id


@dataclass(frozen=True, slots=True)
class Head:
    """What names one answer, and what it repeats of the request. `created` is in s since 1970."""

    number: str
    model: str
    created: int
    repeated: Mapping[str, Any]

    @classmethod
    def read(cls, number: str, model: str, told: str) -> Head:
        """From what `dump` has made of it."""
        return cls(number, model, **json.loads(told))

    def dump(self) -> str:
        """What a stored response needs beside its events, as JSON."""
        return json.dumps({"created": self.created, "repeated": dict(self.repeated)})

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

    def item_id(self, block: Block) -> str:
        prefix = {"text": "msg", "thoughts": "rs", "call": "fc"}[block.kind]
        return f"{prefix}_{self.number}_{block.index}"

    def item(self, block: Block, status: str) -> dict[str, Any]:
        """One item of the output, with what it holds by now."""
        named = {"id": self.item_id(block), "status": status}
        if block.kind == "call":
            call = {"call_id": call_id(self.number, block.index), "name": block.name}
            return {"type": "function_call", **named, **call, "arguments": block.text}
        content = [render_part(block)] if block.pieces or status != "in_progress" else []
        if block.kind == "thoughts":
            return {"type": "reasoning", **named, "summary": [], "content": content}
        return {"type": "message", **named, "role": "assistant", "content": content}

    def ended(self, finished: Finished, blocks: Blocks) -> dict[str, Any]:
        """The whole response; it is incomplete where it ran into its limit."""
        status, why = status_of(finished), None
        if status == "incomplete":
            why = {"reason": "max_output_tokens"}
        *before, last = blocks.row
        return self.response(
            status,
            incomplete_details=why,
            output=[*(self.item(block, "completed") for block in before), self.item(last, status)],
            usage=_usage(finished.usage),
        )

    def failed(self, error: PenstockError) -> dict[str, Any]:
        if error.kind.cancelled:
            return self.response("cancelled")
        return self.response("failed", error={"code": error.kind.code, "message": error.message})


def status_of(finished: Finished) -> str:
    """Of the response and of its last item."""
    return "incomplete" if finished.finish_reason == "length" else "completed"


def render_part(block: Block, pieces: Sequence[str] | None = None) -> dict[str, Any]:
    """The one part of a text or of thoughts."""
    text = "".join(block.pieces if pieces is None else pieces)
    if block.kind == "thoughts":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
