"""Calls of tools in earlier messages, as templates take them: with arguments as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.errors import invalid
from penstock.protocols.schemas import parse_json


def parse_calls(
    where: str, calls: Sequence[Mapping[str, Any]] | None
) -> tuple[dict[str, Any], ...]:
    """An earlier answer's `tool_calls`. Raises `PenstockError` that names the place."""
    return tuple(_call(f"{where}.tool_calls[{i}]", call) for i, call in enumerate(calls or ()))


def _call(where: str, call: Mapping[str, Any]) -> dict[str, Any]:
    match call.get("function"):
        case {"name": str(name), **rest}:
            arguments = rest.get("arguments") or {}
        case _:
            raise invalid(where, "a tool call needs a function with a name and arguments")
    if isinstance(arguments, str):
        arguments = parse_json(arguments, f"{where}.function.arguments")
    function = {"name": name, "arguments": arguments}
    return {"id": call.get("id"), "type": "function", "function": function}
