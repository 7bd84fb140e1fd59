"""Anthropic's messages: what may be asked, and how it is refused.

Fields that are unknown are ignored; known ones that would change the result silently are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from penstock.errors import PenstockError, invalid, unsupported
from penstock.protocols.anthropic_messages import ChatTurn, parse_system, parse_turns
from penstock.protocols.body import decode
from penstock.protocols.common import (
    BOUNDS,
    Bounds,
    TextPart,
    check_bounds,
    parse_stop,
    refuse,
)
from penstock.protocols.constraints import parse_schema
from penstock.protocols.sse import dump
from penstock.protocols.tools import ChosenFunction, Function, Tool, ToolChoice, parse_tools
from penstock.requests import GenerateRequest, Grammar, Message, Sampling, Tools

NUMBERS: Mapping[str, Bounds] = {**BOUNDS, "temperature": Bounds(0, 1), "top_k": Bounds(0, 1 << 20)}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
}


class ToolBody(msgspec.Struct):
    """One of `tools`. Those of another type than custom would run on the server."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class Choice(msgspec.Struct):
    """Which of the tools to use: auto, any, none, or the one of that name."""

    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Asking(msgspec.Struct):
    """What a message and a count of its tokens have in common."""

    messages: list[ChatTurn]
    model: str | None = None
    system: str | list[TextPart] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: Choice | None = None
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
        tools=_tools(asked),
        grammar=_grammar(asked),
    )
    if request.grammar and request.tools and request.tools.forced:
        raise invalid("tool_choice", "tool_choice and output_config both say what is answered")
    return Asked(request, bool(asked.stream))


def parse_count(body: bytes) -> GenerateRequest:
    """A message of which only the tokens are counted. Raises `PenstockError`."""
    asked = decode(body, CountBody)
    _check(asked)
    return GenerateRequest(messages=_messages(asked), model=asked.model, tools=_tools(asked))


def tell_error(error: PenstockError) -> tuple[int, str]:
    """Status and body."""
    status = error.kind.status
    told = {"type": _TYPES.get(status, "invalid_request_error"), "message": error.message}
    return status, dump({"type": "error", "error": told})


def _check(asked: Asking) -> None:
    check_bounds(asked, NUMBERS)
    # How long a model thinks cannot be told to it here.
    refuse(thinking=(asked.thinking or {}).get("type") == "enabled")


def _messages(asked: Asking) -> tuple[Message, ...]:
    return parse_system(asked.system) + parse_turns(asked.messages)


def _tools(asked: Asking) -> Tools | None:
    tools = [_tool(index, tool) for index, tool in enumerate(asked.tools or ())]
    choice = asked.tool_choice or Choice("auto")
    parallel = not choice.disable_parallel_tool_use
    match choice:
        case Choice(type="auto" | "none" as kind):
            return parse_tools(tools, kind, parallel)
        case Choice(type="any"):
            return parse_tools(tools, "required", parallel)
        case Choice(type="tool", name=str(name)):
            return parse_tools(tools, ToolChoice(ChosenFunction(name)), parallel)
        case _:
            raise invalid("tool_choice", "tool_choice must be auto, any, none, or tool with a name")


def _tool(index: int, tool: ToolBody) -> Tool:
    if tool.type not in (None, "custom"):
        where = f"tools[{index}].type"
        raise unsupported(where, f"{where}: only custom tools, which the client runs, are there")
    return Tool("function", Function(tool.name, tool.description, tool.input_schema))


def _grammar(asked: Asking) -> Grammar | None:
    match (asked.output_config or {}).get("format"):
        case None:
            return None
        case {"type": "json_schema", "schema": dict() as schema}:
            return parse_schema(schema, "output_config")
        case _:
            message = "output_config.format must be of type json_schema, with a schema"
            raise invalid("output_config", message)
