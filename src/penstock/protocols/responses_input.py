"""The items of a response's `input` as messages: what was said, called, and answered to a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from penstock.errors import invalid, unsupported
from penstock.protocols.common import ROLES
from penstock.protocols.earlier_calls import parse_calls
from penstock.requests import Message

_TEXTS = ("input_text", "output_text", "text")


class InputPart(msgspec.Struct):
    """One part of an item's content."""

    type: str
    text: str | None = None


class InputItem(msgspec.Struct):
    """A message, a call, what a call has said, or thoughts, which no template is told of."""

    role: str | None = None
    content: str | list[InputPart] | None = None
    type: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None


def parse_input(given: str | Sequence[InputItem] | None) -> tuple[Message, ...]:
    """At least one message. Raises `PenstockError`."""
    if not given:
        raise invalid("input", "input must be a string or a list of items, and not empty")
    if isinstance(given, str):
        return (Message("user", given),)
    return joined(message for index, item in enumerate(given) for message in _read(index, item))


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """With calls in the message of the text or the call before them, as templates have it."""
    told: list[Message] = []
    for message in messages:
        before = told[-1] if told else None
        if message.tool_calls and before is not None and before.role == "assistant":
            calls = before.tool_calls + message.tool_calls
            told[-1] = Message("assistant", before.content + message.content, calls)
        else:
            told.append(message)
    return tuple(told)


def _read(index: int, item: InputItem) -> Iterator[Message]:
    where = f"input[{index}]"
    match item.type:
        case None | "message":
            yield _message(where, item)
        case "function_call":
            function = {"name": item.name, "arguments": item.arguments or "{}"}
            call = {"id": item.call_id, "function": function}
            yield Message("assistant", "", parse_calls(where, [call]))
        case "function_call_output":
            if item.output is None or item.call_id is None:
                raise invalid(f"{where}.output", f"{where}: call_id and output are required")
            yield Message("tool", _joined(where, item.output), (), item.call_id)
        case "reasoning":
            return
        case _:
            message = (
                "items must be of type message, function_call, function_call_output, reasoning"
            )
            raise unsupported(f"{where}.type", f"{where}: {message}")


def _message(where: str, item: InputItem) -> Message:
    role = ROLES.get(item.role or "")
    if role is None or role == "tool":
        message = f"{where}: role must be system, developer, user or assistant"
        raise invalid(f"{where}.role", message)
    if item.content is None:
        raise invalid(f"{where}.content", f"{where}: content is required")
    return Message(role, _joined(where, item.content))


def _joined(where: str, content: str | Sequence[InputPart]) -> str:
    if isinstance(content, str):
        return content
    return "".join(_text(where, part) for part in content)


def _text(where: str, part: InputPart) -> str:
    if part.type not in _TEXTS or part.text is None:
        message = f"{where}: content parts must be of type input_text or output_text"
        raise unsupported(f"{where}.content", message)
    return part.text
