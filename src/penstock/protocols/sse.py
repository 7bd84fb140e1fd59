"""Server-sent events, framed so that every client measured takes them.

One event is lines and one blank line, LF only, `data: ` with one space. JSON is ASCII-escaped:
httpx splits lines on everything `str.splitlines` does, U+2028 among it.
"""

from __future__ import annotations

import json

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
DONE = b"data: [DONE]\n\n"

KEEP_ALIVE = b": keep-alive\n\n"
"""For streams without ids. Safe in every client there."""

KEEP_ALIVE_LINE = b": keep-alive\n"
"""For streams with ids: after one, httpx-sse dispatches an empty event at any blank line."""


def dump(value: object) -> str:
    """JSON on one line, ASCII only."""
    return json.dumps(value, separators=(",", ":"))


def data(payload: str) -> bytes:
    """An event that is nothing but data."""
    return f"data: {payload}\n\n".encode("ascii")


def named(name: str, payload: str) -> bytes:
    """An event with a name and no id."""
    return f"event: {name}\ndata: {payload}\n\n".encode("ascii")


def event(name: str, payload: str, *, event_id: str, retry_ms: int | None = None) -> bytes:
    """A named event with an id; `retry_ms` belongs inside the first event of a connection."""
    retry = "" if retry_ms is None else f"retry: {retry_ms}\n"
    return f"event: {name}\nid: {event_id}\n{retry}data: {payload}\n\n".encode("ascii")
