"""Anthropic's messages: what may be asked, and how it is refused.

Fields that are unknown are ignored; known ones that would change the result silently are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import PenstockError, invalid
from penstock.protocols.body import decode
from penstock.protocols.common import (
    BOUNDS,
    Bounds,
    ChatMessage,
    TextPart,
    check_bounds,
    parse_messages,
    parse_stop,
    refuse,
)
from penstock.protocols.sse import dump
from penstock.requests import GenerateRequest, Message, Sampling

ROLES = ("user", "assistant")
NUMBERS: Mapping[str, Bounds] = {**BOUNDS, "temperature": Bounds(0, 1), "top_k": Bounds(0, 1 << 20)}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
}


class Asking(msgspec.Struct):
    """What a message and a count of its tokens have in common."""

    messages: list[ChatMessage]
    model: str | None = None
    system: str | list[TextPart] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None


class CountBody(Asking):
    """POST /v1/messages/count_tokens."""


class MessagesBody(Asking, kw_only=True):
    """POST /v1/messages."""

    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    ignore_eos: bool | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and whether its answer is streamed."""

    request: GenerateRequest
    stream: bool


def parse(body: bytes) -> Asked:
    """A message to be answered. Raises `PenstockError`."""
    asked = decode(body, MessagesBody)
    _check(asked)
    request = GenerateRequest(
        messages=_messages(asked),
        model=asked.model,
        max_tokens=asked.max_tokens,
        sampling=Sampling.of(temperature=asked.temperature, top_p=asked.top_p, top_k=asked.top_k),
        stop=parse_stop(asked.stop_sequences, "stop_sequences"),
        ignore_eos=bool(asked.ignore_eos),
    )
    return Asked(request, bool(asked.stream))


def parse_count(body: bytes) -> GenerateRequest:
    """A message of which only the tokens are counted. Raises `PenstockError`."""
    asked = decode(body, CountBody)
    _check(asked)
    return GenerateRequest(messages=_messages(asked), model=asked.model)


def tell_error(error: PenstockError) -> tuple[int, str]:
    """Status and body."""
    status = error.kind.status
    told = {"type": _TYPES.get(status, "invalid_request_error"), "message": error.message}
    return status, dump({"type": "error", "error": told})


def _check(asked: Asking) -> None:
    check_bounds(asked, NUMBERS)
    refuse(
        tool_choice=_type_of(asked.tool_choice) in ("any", "tool"),
        thinking=_type_of(asked.thinking) == "enabled",
        output_config=bool((asked.output_config or {}).get("format")),
    )


def _type_of(choice: Mapping[str, Any] | None) -> object:
    return (choice or {}).get("type")


def _messages(asked: Asking) -> tuple[Message, ...]:
    for index, message in enumerate(asked.messages):
        if message.role not in ROLES:
            raise invalid(f"messages[{index}].role", "role must be user or assistant")
    messages = parse_messages(asked.messages)
    if messages[-1].role != "user":
        # Templates close the assistant's turn, so it would be answered instead of continued.
        raise invalid("messages", "messages: the last must be of role user")
    if not asked.system:
        return messages
    parts = asked.system if isinstance(asked.system, list) else [TextPart("text", asked.system)]
    if any(part.type != "text" or part.text is None for part in parts):
        raise invalid("system", "system must be a string or blocks of type text")
    return (Message("system", "\n".join(part.text or "" for part in parts)), *messages)
