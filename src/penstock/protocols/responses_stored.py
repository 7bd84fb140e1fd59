"""Stored responses: how one stands, from where it is read, how a conversation goes on from it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from penstock.errors import NOT_FOUND, PenstockError, invalid
from penstock.events import Failed, Finished
from penstock.jobs.job import JobState
from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.blocks import Blocks, read, read_arguments
from penstock.protocols.responses import Asked
from penstock.protocols.responses_head import Head
from penstock.requests import Message

MAX_POSITION_DIGITS = 18
_ID = re.compile(r"resp_([0-9a-f]{8,64})")
_STATUSES = {"queued": "queued", "running": "in_progress"}


def parse_id(response_id: str) -> str:
    """The id of the job that keeps a response. Raises `PenstockError`."""
    if found := _ID.fullmatch(response_id):
        return f"job_{found[1]}"
    raise unknown()


def unknown() -> PenstockError:
    message = "no such response is kept here; it may have been forgotten, or was not to be stored"
    return PenstockError(NOT_FOUND, message, param="response_id")


def is_streamed(query: bytes) -> bool:
    """Whether a response is asked for as a stream."""
    return _fields(query).get("stream", "").lower() in ("true", "1")


def parse_after(query: bytes) -> int:
    """`starting_after`: the number of the last event that was read. Raises `PenstockError`."""
    told = _fields(query).get("starting_after")
    if told is None:
        return -1
    if not (told.isascii() and told.isdigit() and len(told) <= MAX_POSITION_DIGITS):
        raise invalid("starting_after", "starting_after must be a whole number, 0 or more")
    return int(told)


def render_stored(
    head: Head, parser: AnswerParser | None, state: JobState, text: str
) -> dict[str, Any]:
    """The response as it stands."""
    match state.terminal:
        case None:
            return head.response(_STATUSES[state.status])
        case Finished() as finished:
            return head.ended(finished, read(text, parser))
        case Failed(error):
            return head.failed(error)


def follow_up(
    earlier: tuple[Message, ...], head: Head, blocks: Blocks, asked: Asked
) -> tuple[Message, ...]:
    """The conversation that goes on, under the instructions of `asked` and no earlier ones."""
    messages = asked.request.messages or ()
    place = 1 if asked.repeated.get("instructions") else 0
    before = earlier[1:] if head.repeated.get("instructions") else earlier
    return (*messages[:place], *before, _answer(head, blocks), *messages[place:])


def _answer(head: Head, blocks: Blocks) -> Message:
    """An answer as a message. A call that was cut short is told without its arguments."""
    items = [head.item(block, "completed") for block in blocks.row]
    calls = [
        {
            "id": item["call_id"],
            "type": "function",
            "function": {"name": item["name"], "arguments": read_arguments(item["arguments"])},
        }
        for item in items
        if item["type"] == "function_call"
    ]
    text = "".join(block.text for block in blocks.row if block.kind == "text")
    return Message("assistant", text, tuple(calls))


def _fields(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(query.decode("latin-1")))
