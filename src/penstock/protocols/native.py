"""GET /chat/stream: one question in the query, one answer as EventSource likes it.

`id: <job>:<n>` on each event lets a reconnecting EventSource say which job it was reading, and how
far. The end is an event named `done`, errors included: `error` is a name that EventSource keeps for
itself.
"""

from __future__ import annotations

import re
from itertools import count
from json import dumps
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from penstock.errors import invalid
from penstock.events import Delta, Ended, Event, Failed, Finished
from penstock.protocols import sse
from penstock.protocols.body import convert
from penstock.protocols.common import check_bounds, parse_prompt, parse_seed, render_error
from penstock.protocols.openai_answer import render_usage
from penstock.requests import GenerateRequest, Message, Sampling

RETRY_MS = 1000
MAX_FIELDS = 32

_PLACE = re.compile(rb"(job_[0-9a-f]{1,64}):([0-9]{1,18})")


class Query(msgspec.Struct):
    """The query of GET /chat/stream."""

    prompt: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None


def parse_query(query: bytes) -> GenerateRequest:
    """A chat of one user message. Raises `PenstockError`."""
    asked = convert(_fields(query), Query)
    check_bounds(asked)
    return GenerateRequest(
        messages=(Message("user", parse_prompt(asked.prompt)),),
        max_tokens=asked.max_tokens,
        sampling=Sampling.of(temperature=asked.temperature, seed=parse_seed(asked.seed)),
    )


def parse_place(header: bytes) -> tuple[str, int] | None:
    """The job and the number in a Last-Event-ID of ours; None if it is not one."""
    match = _PLACE.fullmatch(header)
    return (match[1].decode("ascii"), int(match[2])) if match else None


class ChatStreamEncoder:
    """Events named token and done, behind number `after`."""

    def __init__(self, job_id: str, after: int = 0) -> None:
        self._job_id = job_id
        self._numbers = count(after + 1)
        self._retry_ms: int | None = RETRY_MS

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                return self._event("token", f'{{"text":{dumps(text)}}}')
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished(reason, usage):
                told: dict[str, Any] = {"finish_reason": reason, "usage": render_usage(usage)}
                return self._event("done", sse.dump(told))
            case Failed(error):
                told = {"finish_reason": "error", "error": render_error(error)}
                return self._event("done", sse.dump(told))

    def heartbeat(self) -> bytes:
        return sse.KEEP_ALIVE_LINE

    def _event(self, name: str, payload: str) -> bytes:
        retry_ms, self._retry_ms = self._retry_ms, None
        event_id = f"{self._job_id}:{next(self._numbers)}"
        return sse.event(name, payload, event_id=event_id, retry_ms=retry_ms)


def _fields(query: bytes) -> dict[str, str]:
    """A field without a value is absent; of one that is there twice, the last counts."""
    try:
        text = query.decode("utf-8")
        return dict(parse_qsl(text, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        raise invalid("query", "the query is not valid UTF-8, or has too many fields") from None
