"""Anthropic's messages as everybody's: blocks to texts, calls of tools and what those have said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from penstock.errors import invalid, unsupported
from penstock.protocols.common import TextPart
from penstock.requests import Message

ROLES = ("user", "assistant")
THOUGHTS = ("thinking", "redacted_thinking")
"""Of earlier answers. No template is told of them, as in Anthropic's own earlier turns."""


class Block(msgspec.Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[TextPart] | None = None


class ChatTurn(msgspec.Struct):
    """One of `messages`."""

    role: str
    content: str | list[Block] | None = None


def parse_turns(turns: Sequence[ChatTurn]) -> tuple[Message, ...]:
    """At least one message, the last of role user. Raises `PenstockError`."""
    if not turns:
        raise invalid("messages", "messages must be a list with at least one message")
    messages = tuple(
        message for index, turn in enumerate(turns) for message in _messages(index, turn)
    )
    if turns[-1].role != "user":
        # Templates close the assistant's turn, so it would be answered instead of continued.
        raise invalid("messages", "messages: the last must be of role user")
    return messages


def parse_system(system: str | Sequence[TextPart] | None) -> tuple[Message, ...]:
    """What stands before the messages, if anything does."""
    return (Message("system", _joined("system", system, "\n")),) if system else ()


def _messages(index: int, turn: ChatTurn) -> Iterator[Message]:
    where = f"messages[{index}]"
    if turn.role not in ROLES:
        raise invalid(f"{where}.role", "role must be user or assistant")
    if turn.content is None:
        raise invalid(f"{where}.content", "content is required")
    blocks = [Block("text", turn.content)] if isinstance(turn.content, str) else turn.content
    for block in blocks:
        _check(f"{where}.content", turn.role, block)
    text = "".join(block.text or "" for block in blocks if block.type == "text")
    if turn.role == "assistant":
        yield Message("assistant", text, tuple(_call(b) for b in blocks if b.type == "tool_use"))
        return
    results = [block for block in blocks if block.type == "tool_result"]
    for block in results:
        said = _joined(f"{where}.content", block.content or "")
        yield Message("tool", said, (), block.tool_use_id)
    if text or not results:
        yield Message("user", text)


def _check(where: str, role: str, block: Block) -> None:
    match block:
        case Block(type="text", text=str()):
            return
        case Block(type="tool_use", id=str(), name=str()) if role == "assistant":
            return
        case Block(type="tool_result", tool_use_id=str()) if role == "user":
            return
        case Block(type=kind) if kind in THOUGHTS and role == "assistant":
            return
    kinds = {"user": "text or tool_result", "assistant": "text, thinking or tool_use"}[role]
    raise unsupported(where, f"{where}: blocks of role {role} must be {kinds}, with their fields")


def _call(block: Block) -> dict[str, Any]:
    function = {"name": block.name, "arguments": block.input or {}}
    return {"id": block.id, "type": "function", "function": function}


def _joined(where: str, content: str | Sequence[TextPart], between: str = "") -> str:
    if isinstance(content, str):
        return content
    if any(part.type != "text" or part.text is None for part in content):
        raise invalid(where, f"{where}: must be a string or blocks of type text")
    return between.join(part.text or "" for part in content)
