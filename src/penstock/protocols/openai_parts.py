"""The parts of an answer in OpenAI's shapes: deltas of a stream, fields of a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from penstock.events import Ended, Finished
from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.parts import Arguments, Call, Content, Part, Reasoning, call_id

Parsers: TypeAlias = Sequence[AnswerParser]
"""One for each choice, or none where an answer is nothing but text."""


def render_delta(part: Part, seed: str) -> dict[str, Any]:
    """One delta. `seed` is what no other answer has; a call's id is made from it."""
    match part:
        case Content(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case Call():
            return {"tool_calls": [{"index": part.index, **_call(part, seed)}]}
        case Arguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def render_message(parts: Iterable[Part], seed: str) -> dict[str, Any]:
    """Fields of a whole message, joined as a client joins the deltas."""
    said, thought, calls = "", "", list[dict[str, Any]]()
    for part in parts:
        match part:
            case Content(text):
                said += text
            case Reasoning(text):
                thought += text
            case Call():
                calls.append(_call(part, seed))
            case Arguments(index, text):
                calls[index]["function"]["arguments"] += text
    fields: dict[str, Any] = {"content": None if calls and not said else said}
    if thought:
        fields["reasoning_content"] = thought
    return fields | ({"tool_calls": calls} if calls else {})


def finish_reason(ended: Ended | Finished, parser: AnswerParser | None) -> str:
    """What a client acts on: calls that are complete, unless the answer was cut short."""
    called = parser is not None and parser.called and ended.finish_reason == "stop"
    return "tool_calls" if called else ended.finish_reason


def _call(call: Call, seed: str) -> dict[str, Any]:
    number = call_id(seed, call.index)
    return {"id": number, "type": "function", "function": {"name": call.name, "arguments": ""}}
