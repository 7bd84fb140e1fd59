"""The job API: what may be asked, what is known of a job, and its events as server-sent events.

Events are numbered from 1 without gaps, and the bytes of an event never change, except that
`retry:` stands inside the first of each connection.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import count
from json import dumps
from typing import Any

import msgspec

from penstock.errors import invalid
from penstock.events import Delta, Ended, Event, Failed, Figures, Finished, Terminal
from penstock.jobs.job import JobState
from penstock.protocols import sse
from penstock.protocols.body import decode
from penstock.protocols.common import Bounds, render_error
from penstock.protocols.openai_answer import render_usage
from penstock.protocols.single import SingleBody, parse_single
from penstock.requests import GenerateRequest

RETRY_MS = 1000
MAX_KEY_CHARACTERS = 255
MAX_POSITION_DIGITS = 18
LIMIT = Bounds(1, 1000)
DEFAULT_LIMIT = 100


class AckBody(msgspec.Struct):
    """POST /v1/jobs/{id}/ack."""

    id: int


@dataclass(frozen=True, slots=True)
class JobAsked:
    """A request, its window, and a digest that is the same for equal JSON."""

    request: GenerateRequest
    window: int | None
    digest: bytes


def parse_job(body: bytes) -> JobAsked:
    """What a job is to generate. Raises `PenstockError`."""
    job = decode(body, SingleBody)
    return JobAsked(parse_single(job), job.window, _digest(body))


def parse_key(header: bytes | None) -> str | None:
    """The Idempotency-Key. Raises `PenstockError`."""
    if header is None:
        return None
    key = header.decode("latin-1")
    if not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise invalid(
            "Idempotency-Key", f"Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} characters"
        )
    return key


def parse_position(header: bytes | None, field: str | None) -> int:
    """Last-Event-ID, or `last_event_id` of the query; 0 without either. Raises `PenstockError`."""
    told = header.decode("latin-1") if header else field
    if not told:
        return 0
    if not (told.isascii() and told.isdigit() and len(told) <= MAX_POSITION_DIGITS):
        raise invalid("last_event_id", "the last event id must be a whole number, 0 or more")
    return int(told)


def parse_ack(body: bytes) -> int:
    """The id up to which events have arrived. Raises `PenstockError`."""
    event_id = decode(body, AckBody).id
    if event_id < 0:
        raise invalid("id", "id must be 0 or more")
    return event_id


def parse_limit(text: str | None) -> int:
    """How many jobs to list. Raises `PenstockError`."""
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) in LIMIT):
        raise invalid("limit", f"limit must be {LIMIT}")
    return int(text)


def render_submitted(state: JobState) -> dict[str, Any]:
    return {
        "job_id": state.job_id,
        "stream_url": f"/v1/stream?job_id={state.job_id}",
        "status": state.status,
    }


def render_summary(state: JobState) -> dict[str, Any]:
    """A job without its text."""
    end = state.terminal
    finished = end if isinstance(end, Finished) else None
    return {
        "job_id": state.job_id,
        "status": state.status,
        "last_event_id": state.last_id,
        "acknowledged": state.acknowledged,
        "finish_reason": finished and finished.finish_reason,
        "usage": finished and render_usage(finished.usage),
        "error": render_error(end.error) if isinstance(end, Failed) else None,
        "figures": end and _figures(end.figures),
    }


def render_job(state: JobState, text: str) -> dict[str, Any]:
    return render_summary(state) | {"text": text}


class JobStreamEncoder:
    """Events behind number `after` to those of one connection to GET /v1/stream."""

    def __init__(self, job_id: str, after: int) -> None:
        self._job_id = job_id
        self._numbers = count(after + 1)
        self._retry_ms: int | None = RETRY_MS

    def encode(self, event: Event) -> bytes:
        number = next(self._numbers)
        if isinstance(event, Delta):
            head = f'{{"job_id":"{self._job_id}","index":{number - 1},"text":'
            return self._event("token", number, f"{head}{dumps(event.text)}}}")
        assert not isinstance(event, Ended), "a job has one answer"
        name, told = _terminal(event)
        return self._event(name, number, sse.dump({"job_id": self._job_id, **told}))

    def heartbeat(self) -> bytes:
        return sse.KEEP_ALIVE_LINE

    def _event(self, name: str, number: int, payload: str) -> bytes:
        retry_ms, self._retry_ms = self._retry_ms, None
        return sse.event(name, payload, event_id=str(number), retry_ms=retry_ms)


def _terminal(event: Terminal) -> tuple[str, dict[str, Any]]:
    figures = {"figures": _figures(event.figures)}
    if isinstance(event, Finished):
        usage = render_usage(event.usage)
        told = {"finish_reason": event.finish_reason, "usage": usage}
        return "job_complete", told | figures
    if event.error.kind.cancelled:
        return "job_cancelled", {"reason": event.error.kind.reason} | figures
    return "job_error", {"error": render_error(event.error)} | figures


def _figures(figures: Figures | None) -> dict[str, Any] | None:
    """In seconds, to the microsecond."""
    if figures is None:
        return None
    return {name: value and round(value, 6) for name, value in asdict(figures).items()}


def _digest(body: bytes) -> bytes:
    """Neither the order of keys nor white space counts."""
    return sha256(msgspec.json.encode(decode(body, object), order="deterministic")).digest()
