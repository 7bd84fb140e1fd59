"""OpenAI's answers: chunks of a stream, or one object at the end.

No `id:`, `retry:` or `event:` lines: openai-python keeps an id and then takes every blank line for
an event. No `error` key unless there is one: @huggingface/inference throws on its mere presence.
"""

from __future__ import annotations

from dataclasses import dataclass
from json import dumps
from typing import Any, Literal

from penstock.events import Delta, Event, Failed, Finished, Usage
from penstock.protocols import sse
from penstock.protocols.openai import dump_error
from penstock.protocols.openai_logprobs import Logprobs

FINGERPRINT = "penstock-1"
Shape = Literal["chat", "text"]


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats. `created` is in seconds since 1970."""

    shape: Shape
    number: str
    model: str
    created: int

    def fields(self, *, stream: bool) -> dict[str, Any]:
        chat = self.shape == "chat"
        kind = ("chat.completion.chunk" if stream else "chat.completion") if chat else None
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.number}",
            "object": kind or "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


class StreamEncoder:
    """Events to server-sent chunks. Only the text of a chunk changes, so the rest is kept."""

    def __init__(
        self, head: Head, *, include_usage: bool = False, logprobs: Logprobs | None = None
    ) -> None:
        self._head = head
        self._include_usage = include_usage
        self._logprobs = logprobs
        frame = self._chunk(self._choice("\x00", None)).decode("ascii")
        self._before, _, self._after = frame.rpartition(dumps("\x00"))
        self._opening = self._role_chunk() if head.shape == "chat" else b""

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                return self._open() + self._piece(text, event)
            case Finished():
                return self._open() + self._finish(event)
            case Failed(error):
                return sse.data(dump_error(error))

    def heartbeat(self) -> bytes:
        return sse.KEEP_ALIVE

    def _open(self) -> bytes:
        """The role chunk, before the first other chunk and never again."""
        opening, self._opening = self._opening, b""
        return opening

    def _piece(self, text: str, delta: Delta) -> bytes:
        told = self._logprobs.delta(delta) if self._logprobs is not None else None
        if told is None:
            return (self._before + dumps(text) + self._after).encode("ascii")
        return self._chunk(self._choice(text, None, told))

    def _finish(self, finished: Finished) -> bytes:
        told = None if self._logprobs is None else self._logprobs.finished(finished)
        chunk = self._chunk(self._choice(None, finished.finish_reason, told))
        if self._include_usage:
            usage = {"choices": [], "usage": render_usage(finished.usage)}
            chunk += sse.data(sse.dump(self._head.fields(stream=True) | usage))
        return chunk + sse.DONE

    def _role_chunk(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        return self._chunk({"index": 0, "delta": delta, "logprobs": None, "finish_reason": None})

    def _choice(
        self, text: str | None, reason: str | None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        if self._head.shape == "chat":
            body: dict[str, Any] = {"delta": {} if text is None else {"content": text}}
        else:
            body = {"text": text or ""}
        return {"index": 0, **body, "logprobs": logprobs, "finish_reason": reason}

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return sse.data(sse.dump(self._head.fields(stream=True) | {"choices": [choice]}))


class WholeEncoder:
    """Events to one JSON object, given out with the last of them."""

    def __init__(self, head: Head, *, logprobs: Logprobs | None = None) -> None:
        self._head = head
        self._logprobs = logprobs
        self._pieces: list[str] = []

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._pieces.append(text)
                if self._logprobs is not None:
                    self._logprobs.hold(event)
                return b""
            case Finished():
                return sse.dump(self._whole(event)).encode("ascii")
            case Failed(error):
                return dump_error(error).encode("ascii")

    def heartbeat(self) -> bytes:
        return b""

    def _whole(self, finished: Finished) -> dict[str, Any]:
        text = "".join(self._pieces)
        if self._head.shape == "chat":
            body: dict[str, Any] = {
                "message": {"role": "assistant", "content": text, "refusal": None}
            }
        else:
            body = {"text": text}
        told = None if self._logprobs is None else self._logprobs.finished(finished)
        choice = {"index": 0, **body, "logprobs": told, "finish_reason": finished.finish_reason}
        fields = self._head.fields(stream=False)
        return fields | {"choices": [choice], "usage": render_usage(finished.usage)}


def render_usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def render_model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "penstock"}
