"""The two shapes of OpenAI's streaming completions: what is sent, and what a chunk says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from penstock.loadgen.plan import Ask

Shape: TypeAlias = Literal["chat", "text"]
PATHS: Mapping[Shape, str] = {"chat": "/chat/completions", "text": "/completions"}
DONE = b"[DONE]"


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the server counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Any = None


@dataclass(frozen=True, slots=True)
class Said:
    """What one event of a stream means."""

    text: bool = False
    finish_reason: str | None = None
    usage: Usage | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one server is asked. `extra` fields go into each body, over all others."""

    shape: Shape = "chat"
    model: str = "default"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, ask: Ask) -> bytes:
        fields: dict[str, Any] = {
            "model": self.model,
            "max_tokens": ask.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.shape == "chat":
            fields["messages"] = [{"role": "user", "content": ask.prompt}]
        else:
            fields["prompt"] = ask.prompt
        return msgspec.json.encode(fields | dict(self.extra))


_decoder = msgspec.json.Decoder(_Chunk)


def hear(payload: bytes) -> Said:
    """What a chunk says. Raises `ValueError` where it is no chunk at all."""
    try:
        chunk = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a chunk of a completion: {error}") from None
    if chunk.error:
        return Said(error=_first_line(chunk.error))
    reasons = [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
    return Said(
        text=any(_has_text(choice) for choice in chunk.choices),
        finish_reason=reasons[0] if reasons else None,
        usage=chunk.usage,
    )


def _has_text(choice: _Choice) -> bool:
    delta = choice.delta
    return bool(choice.text or (delta and (delta.content or delta.reasoning_content)))


def _first_line(error: object) -> str:
    told = error.get("message", error) if isinstance(error, dict) else error
    return str(told).splitlines()[0][:200] if str(told) else "error"
