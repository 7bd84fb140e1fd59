"""Tabby: completions of code for an editor. Answered whole, never streamed.

They share a path with OpenAI's text completions, and are told apart by their fields: a `prompt` is
OpenAI's, else `segments` or `debug_options` are Tabby's.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from penstock.errors import invalid
from penstock.events import Delta, Ended, Event, Failed, Finished
from penstock.protocols import sse
from penstock.protocols.body import decode
from penstock.protocols.common import check_bounds, parse_seed
from penstock.protocols.openai import dump_error
from penstock.requests import GenerateRequest, Sampling

TEMPERATURE = 0.1
"""Where none is asked for: an editor wants the likeliest, and no loops."""
MAX_TOKENS = 64
NO_GAP_STOP = ("\n\n",)
"""A model that cannot fill gaps does not know where one ends."""

AS_TABBY = "v0.32.0"
"""The server that we answer like. From 0.9.0 on the agent asks whether to phone home."""


class Segments(msgspec.Struct):
    """The text on both sides of the cursor."""

    prefix: str
    suffix: str | None = None


class DebugOptions(msgspec.Struct):
    raw_prompt: str | None = None


class CursorBody(msgspec.Struct):
    """POST /v1/completions with `segments`."""

    language: str | None = None
    segments: Segments | None = None
    debug_options: DebugOptions | None = None
    temperature: float | None = None
    seed: int | None = None
    user: str | None = None


class _Marks(msgspec.Struct):
    """The fields by which a body is known."""

    prompt: Any = None
    segments: Any = None
    debug_options: Any = None


def is_tabby(body: bytes) -> bool:
    """Whether an editor asks. What is not JSON is left to OpenAI's parser to refuse."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        marks = msgspec.json.decode(body, type=_Marks)
        return marks.prompt is None and (
            marks.segments is not None or marks.debug_options is not None
        )
    return False


def parse(body: bytes, *, fills_gaps: bool) -> GenerateRequest:
    """A request for a model that was taught to fill gaps, or not. Raises `PenstockError`."""
    asked = decode(body, CursorBody)
    check_bounds(asked)
    sampling = Sampling.of(
        temperature=TEMPERATURE if asked.temperature is None else asked.temperature,
        seed=parse_seed(asked.seed),
    )
    prefix, suffix = _texts(asked)
    gap = suffix if fills_gaps else None
    return GenerateRequest(
        prompt=prefix,
        suffix=gap,
        max_tokens=MAX_TOKENS,
        sampling=sampling,
        stop=() if gap else NO_GAP_STOP,
    )


def _texts(asked: CursorBody) -> tuple[str, str | None]:
    """What lies before the cursor, and behind it if anything does."""
    raw = asked.debug_options.raw_prompt if asked.debug_options else None
    if raw is not None:
        return raw, None
    if asked.segments is None:
        raise invalid("segments", "segments: is required, with the prefix of the cursor in it")
    return asked.segments.prefix, asked.segments.suffix or None


class Encoder:
    """Events to one JSON object."""

    def __init__(self, number: str) -> None:
        self._number = number
        self._pieces: list[str] = []

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._pieces.append(text)
                return b""
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                choice = {"index": 0, "text": "".join(self._pieces)}
                told = {"id": f"cmpl-{self._number}", "choices": [choice]}
                return sse.dump(told).encode("ascii")
            case Failed(error):
                return dump_error(error).encode("ascii")

    def heartbeat(self) -> bytes:
        return b""


def render_health(name: str, *, device: str, machine: str, cpus: int) -> dict[str, Any]:
    """GET /v1/health. The agent wants `model` and `device`, and reads the version."""
    return {
        "model": name,
        "chat_model": name,
        "device": device,
        "arch": machine,
        "cpu_info": machine,
        "cpu_count": cpus,
        "cuda_devices": [],
        "version": {
            "build_date": "2026-01-01",
            "build_timestamp": "2026-01-01T00:00:00Z",
            "git_sha": "0" * 40,
            "git_describe": AS_TABBY,
        },
    }
