"""OpenAI's responses: what may be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import invalid, unsupported
from penstock.protocols.body import decode
from penstock.protocols.common import SamplingBody, check_bounds, parse_sampling, refuse
from penstock.protocols.constraints import parse_schema
from penstock.protocols.responses_input import InputItem, parse_input
from penstock.protocols.tools import ChosenFunction, Function, Tool, ToolChoice, parse_tools
from penstock.requests import GenerateRequest, Grammar, Message, Tools

MAX_METADATA = 16
"""OpenAI's own bound, of pairs; they are repeated and kept."""


class FunctionTool(msgspec.Struct, omit_defaults=True):
    """One of `tools`. Those of another type would run on the server."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Chosen(msgspec.Struct):
    """The one function that must be called."""

    type: str
    name: str | None = None


class ResponsesBody(SamplingBody):
    """POST /v1/responses."""

    input: str | list[InputItem] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    text: dict[str, Any] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | Chosen | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    truncation: str | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, how its answer is delivered, and what the answer repeats of it.

    `previous` names the response that the conversation goes on from; its messages are not in the
    request yet.
    """

    request: GenerateRequest
    stream: bool
    repeated: dict[str, Any]
    store: bool = True
    background: bool = False
    previous: str | None = None


def parse(body: bytes) -> Asked:
    """A request. Raises `PenstockError` for anything else."""
    asked = decode(body, ResponsesBody)
    check_bounds(asked)
    store = asked.store is not False
    refuse(
        n=(asked.n or 1) > 1,
        conversation=asked.conversation is not None,
        truncation=asked.truncation not in (None, "disabled"),
        top_logprobs=bool(asked.top_logprobs),
    )
    if asked.background and not store:
        raise invalid("background", "background needs store, or nobody could read the answer")
    if len(asked.metadata or ()) > MAX_METADATA:
        raise invalid("metadata", f"metadata takes at most {MAX_METADATA} pairs")
    return Asked(
        _request(asked),
        bool(asked.stream),
        _repeated(asked),
        store,
        bool(asked.background),
        asked.previous_response_id,
    )


def _request(asked: ResponsesBody) -> GenerateRequest:
    before = (Message("system", asked.instructions),) if asked.instructions else ()
    tools, grammar = _tools(asked), _grammar(asked)
    return GenerateRequest(
        messages=before + parse_input(asked.input),
        tools=tools,
        # A format binds text, and an answer that must be a call has none.
        grammar=None if tools and tools.forced else grammar,
        **parse_sampling(asked) | {"max_tokens": asked.max_output_tokens},
    )


def _grammar(asked: ResponsesBody) -> Grammar | None:
    match (asked.text or {}).get("format"):
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", "schema": dict() as schema}:
            return parse_schema(schema, "text.format")
        case {"type": "json_object"}:
            return parse_schema({"type": "object"}, "text.format")
        case _:
            message = "text.format must be text, json_object, or json_schema with a schema"
            raise invalid("text.format", message)


def _tools(asked: ResponsesBody) -> Tools | None:
    tools = [_tool(index, tool) for index, tool in enumerate(asked.tools or ())]
    match asked.tool_choice:
        case Chosen(type="function", name=str(name)):
            return parse_tools(tools, ToolChoice(ChosenFunction(name)), asked.parallel_tool_calls)
        case Chosen():
            message = "tool_choice must be auto, none, required, or a function with its name"
            raise invalid("tool_choice", message)
        case choice:
            return parse_tools(tools, choice, asked.parallel_tool_calls)


def _tool(index: int, tool: FunctionTool) -> Tool:
    where = f"tools[{index}]"
    if tool.type != "function":
        raise unsupported(f"{where}.type", f"{where}: tools must be of type function")
    if tool.name is None:
        raise invalid(f"{where}.name", f"{where}.name: is required")
    return Tool("function", Function(tool.name, tool.description, tool.parameters))


def _repeated(asked: ResponsesBody) -> dict[str, Any]:
    """What a client finds again in its answer, as it was told."""
    return {
        "background": bool(asked.background),
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": asked.previous_response_id,
        "store": asked.store is not False,
        "temperature": asked.temperature,
        "text": asked.text or {"format": {"type": "text"}},
        "tool_choice": msgspec.to_builtins(asked.tool_choice) or "auto",
        "tools": msgspec.to_builtins(asked.tools or []),
        "top_p": asked.top_p,
    }
