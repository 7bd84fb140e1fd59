"""Tools as OpenAI's clients describe them, and the grammar of an answer that must call them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from penstock.errors import invalid
from penstock.protocols.constraints import quote
from penstock.protocols.schemas import MAX_SCHEMA_BYTES, lean_schema
from penstock.protocols.tool_formats import CallFormat
from penstock.requests import Grammar, Tools

MAX_TOOLS = 128
MAX_CALLS = 16
"""Of one answer that must call; a model without sense would otherwise never stop."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    """One of `tools`."""

    type: str
    function: Function


class ChosenFunction(msgspec.Struct):
    name: str


class ToolChoice(msgspec.Struct):
    """The one function that must be called."""

    function: ChosenFunction
    type: str = "function"


def parse_tools(
    tools: Sequence[Tool] | None, choice: str | ToolChoice | None, parallel: bool | None
) -> Tools | None:
    """What the model may call; None where it may call nothing. Raises `PenstockError`."""
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        raise invalid("tool_choice", "tool_choice must be auto, none, required, or name a function")
    if not tools:
        if choice not in (None, "auto", "none"):
            raise invalid("tool_choice", "tool_choice asks for a tool, and there are no tools")
        return None
    if len(tools) > MAX_TOOLS:
        raise invalid("tools", f"tools takes at most {MAX_TOOLS}")
    found = Tools(
        tuple(_definition(index, tool) for index, tool in enumerate(tools)),
        forced=choice not in (None, "auto", "none"),
        choice=choice.function.name if isinstance(choice, ToolChoice) else None,
        parallel=parallel is not False,
    )
    if found.choice is not None and found.choice not in found.names:
        raise invalid("tool_choice", "tool_choice names a function that is not among the tools")
    return None if choice == "none" else found


def tool_grammar(tools: Tools, form: CallFormat, special: Callable[[str], int | None]) -> Grammar:
    """What an answer that must be a call looks like. `special` gives ids of marker tokens."""
    chosen = [
        tool["function"]
        for tool in tools.definitions
        if tools.choice in (None, tool["function"]["name"])
    ]
    rules = [f"start: {_frame(form, special, several=tools.parallel)}"]
    rules.append("call: " + " | ".join(f"call{index}" for index in range(len(chosen))))
    for index, function in enumerate(chosen):
        before = json.dumps({"name": function["name"], form.arguments: 0})[:-2]
        # Arguments are always an object, whether or not the schema says so.
        schema = lean_schema({"type": "object"} | (function.get("parameters") or {}), "tools")
        rules.append(f'call{index}: {quote(before)} args{index} "}}"\nargs{index}: %json {schema}')
    text = "\n".join(rules)
    if len(text.encode()) > 2 * MAX_SCHEMA_BYTES:
        raise invalid("tools", "tools are too many, or their parameters too long, to require one")
    return Grammar("lark", text, "tools")


def _frame(form: CallFormat, special: Callable[[str], int | None], *, several: bool) -> str:
    begin, end = (_marker(text, special) for text in (form.begin, form.end))
    if form.listed:
        more = f'(", " call){{0,{MAX_CALLS - 1}}}' if several else ""
        return f'{begin} "[" call {more} "]"'
    if not form.begin:
        return "call"
    one = f'{begin} "\\n" call "\\n" {end}'
    return f'{one} ("\\n" {one}){{0,{MAX_CALLS - 1}}}' if several else one


def _marker(text: str, special: Callable[[str], int | None]) -> str:
    token_id = special(text) if text else None
    return quote(text) if token_id is None else f"<[{token_id}]>"


def _definition(index: int, tool: Tool) -> dict[str, Any]:
    where = f"tools[{index}]"
    if tool.type != "function":
        raise invalid(f"{where}.type", "a tool must be of type function")
    if not _NAME.fullmatch(tool.function.name):
        raise invalid(
            f"{where}.function.name", "a function's name has 1 to 64 letters, digits, _, . or -"
        )
    return {"type": "function", "function": dict(_stated(tool.function))}


def _stated(function: Function) -> Iterator[tuple[str, Any]]:
    for name in function.__struct_fields__:
        if (value := getattr(function, name)) is not None:
            yield name, value
