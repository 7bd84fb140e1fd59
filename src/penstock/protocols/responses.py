"""OpenAI's responses: what may be asked. Nothing is stored, so nothing can be gone on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import invalid, unsupported
from penstock.protocols.body import decode
from penstock.protocols.common import ROLES, SamplingBody, check_bounds, parse_sampling, refuse
from penstock.requests import GenerateRequest, Message

_TEXTS = ("input_text", "output_text", "text")


class InputPart(msgspec.Struct):
    """One part of an item's content."""

    type: str
    text: str | None = None


class InputItem(msgspec.Struct):
    """One message."""

    role: str | None = None
    content: str | list[InputPart] | None = None
    type: str | None = None


class ResponsesBody(SamplingBody):
    """POST /v1/responses."""

    input: str | list[InputItem] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    text: dict[str, Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    background: bool | None = None
    truncation: str | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whether its answer is streamed, and what the answer repeats of it."""

    request: GenerateRequest
    stream: bool
    repeated: dict[str, Any]


def parse(body: bytes) -> Asked:
    """A request. Raises `PenstockError` for anything else."""
    asked = decode(body, ResponsesBody)
    check_bounds(asked)
    refuse(
        n=(asked.n or 1) > 1,
        text=_format(asked) != "text",
        tool_choice=asked.tool_choice not in (None, "auto", "none"),
        previous_response_id=asked.previous_response_id is not None,
        conversation=asked.conversation is not None,
        background=bool(asked.background),
        truncation=asked.truncation not in (None, "disabled"),
        top_logprobs=bool(asked.top_logprobs),
    )
    common = parse_sampling(asked) | {"max_tokens": asked.max_output_tokens}
    return Asked(
        GenerateRequest(messages=_messages(asked), **common), bool(asked.stream), _repeated(asked)
    )


def _format(asked: ResponsesBody) -> object:
    told = (asked.text or {}).get("format") or {"type": "text"}
    return told.get("type") if isinstance(told, dict) else None


def _messages(asked: ResponsesBody) -> tuple[Message, ...]:
    before = (Message("system", asked.instructions),) if asked.instructions else ()
    if not asked.input:
        raise invalid("input", "input must be a string or a list of messages, and not empty")
    if isinstance(asked.input, str):
        return (*before, Message("user", asked.input))
    return (*before, *(_message(f"input[{i}]", item) for i, item in enumerate(asked.input)))


def _message(where: str, item: InputItem) -> Message:
    if item.type not in (None, "message"):
        raise unsupported(f"{where}.type", f"{where}: items must be of type message")
    role = ROLES.get(item.role or "")
    if role is None or role == "tool":
        message = f"{where}: role must be system, developer, user or assistant"
        raise invalid(f"{where}.role", message)
    if item.content is None:
        raise invalid(f"{where}.content", f"{where}: content is required")
    if isinstance(item.content, str):
        return Message(role, item.content)
    return Message(role, "".join(_text(where, part) for part in item.content))


def _text(where: str, part: InputPart) -> str:
    if part.type not in _TEXTS or part.text is None:
        message = f"{where}: content parts must be of type input_text or output_text"
        raise unsupported(f"{where}.content", message)
    return part.text


def _repeated(asked: ResponsesBody) -> dict[str, Any]:
    return {
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "temperature": asked.temperature,
        "top_p": asked.top_p,
    }
