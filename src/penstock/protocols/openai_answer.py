"""OpenAI's answers: chunks of a stream, or one object at the end.

No `id:`, `retry:` or `event:` lines: openai-python keeps an id and then takes every blank line for
an event. No `error` key unless there is one: @huggingface/inference throws on its mere presence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from typing import Any, Literal, TypeAlias

from penstock.events import Delta, Ended, Event, Failed, Finished, Usage
from penstock.protocols import sse
from penstock.protocols.openai import dump_error
from penstock.protocols.openai_logprobs import Logprobs
from penstock.protocols.openai_parts import Parsers, finish_reason, render_delta, render_message
from penstock.protocols.parts import Part
from penstock.protocols.timings import render_timings

FINGERPRINT = "penstock-1"
Shape = Literal["chat", "text"]
Recorders: TypeAlias = Sequence[Logprobs]
"""One for each choice, or none where log probabilities were not asked for."""


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats, and whether its end tells how long it took.

    `created` is in seconds since 1970.
    """

    shape: Shape
    number: str
    model: str
    created: int
    timings: bool = False

    @property
    def name(self) -> str:
        return f"{'chatcmpl' if self.shape == 'chat' else 'cmpl'}-{self.number}"

    def fields(self, *, stream: bool) -> dict[str, Any]:
        chat = self.shape == "chat"
        kind = ("chat.completion.chunk" if stream else "chat.completion") if chat else None
        return {
            "id": self.name,
            "object": kind or "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def times(self, finished: Finished) -> dict[str, Any]:
        """The field about its time, if there is to be one. Clients ignore what they do not know."""
        if not self.timings or finished.figures is None:
            return {}
        return {"timings": render_timings(finished.figures, finished.usage)}


class StreamEncoder:
    """Events to server-sent chunks. Only the text of a chunk changes, so the rest is kept."""

    def __init__(
        self,
        head: Head,
        *,
        n: int = 1,
        include_usage: bool = False,
        logprobs: Recorders = (),
        echo: str = "",
        parsers: Parsers = (),
    ) -> None:
        self._head = head
        self._include_usage = include_usage
        self._logprobs = logprobs
        self._parsers = parsers
        self._frames = [self._frame(choice) for choice in range(n)]
        self._opening = self._role_chunks(n) if head.shape == "chat" else self._echoes(n, echo)

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta() if self._parsers:
                parts = self._parsers[event.choice].push(event.text)
                return self._parts(parts, event) if parts else self._hold(event)
            case Delta():
                return self._open() + self._piece(event)
            case Ended():
                return self._open() + self._end(event)
            case Finished():
                return self._open() + self._end(event) + self._close(event)
            case Failed(error):
                return sse.data(dump_error(error))

    def heartbeat(self) -> bytes:
        return sse.KEEP_ALIVE

    def _open(self) -> bytes:
        """The role chunks, before the first other chunk and never again."""
        opening, self._opening = self._opening, b""
        return opening

    def _piece(self, delta: Delta) -> bytes:
        told = self._logprobs[delta.choice].delta(delta) if self._logprobs else None
        if told is None:
            before, after = self._frames[delta.choice]
            return (before + dumps(delta.text) + after).encode("ascii")
        return self._chunk(self._choice(delta.choice, delta.text, None, told))

    def _parts(self, parts: Sequence[Part], delta: Delta | None, choice: int = 0) -> bytes:
        """A chunk for each; the first has the log probabilities."""
        told = None
        if delta is not None:
            choice = delta.choice
            told = self._logprobs[choice].delta(delta) if self._logprobs else None
        chunks = []
        for part in parts:
            rendered = render_delta(part, f"{self._head.number}:{choice}")
            rest = {"delta": rendered, "logprobs": told, "finish_reason": None}
            chunks.append(self._chunk({"index": choice, **rest}))
            told = None
        return self._open() + b"".join(chunks)

    def _hold(self, delta: Delta) -> bytes:
        if self._logprobs:
            self._logprobs[delta.choice].hold(delta)
        return b""

    def _end(self, event: Ended | Finished) -> bytes:
        parser = self._parsers[event.choice] if self._parsers else None
        rest = self._parts(parser.flush(), None, event.choice) if parser else b""
        told = self._logprobs[event.choice].ended(event) if self._logprobs else None
        choice = self._choice(event.choice, None, finish_reason(event, parser), told)
        times = self._head.times(event) if isinstance(event, Finished) else {}
        return rest + self._chunk(choice, times)

    def _close(self, finished: Finished) -> bytes:
        if not self._include_usage:
            return sse.DONE
        usage = {"choices": [], "usage": render_usage(finished.usage)}
        return sse.data(sse.dump(self._head.fields(stream=True) | usage)) + sse.DONE

    def _frame(self, choice: int) -> tuple[str, str]:
        """What goes before and behind the text of a chunk."""
        frame = self._chunk(self._choice(choice, "\x00", None)).decode("ascii")
        before, _, after = frame.rpartition(dumps("\x00"))
        return before, after

    def _role_chunks(self, n: int) -> bytes:
        """All at once and in order: openai-python's helper indexes a list that it appends to."""
        delta = {"role": "assistant", "content": ""}
        rest = {"delta": delta, "logprobs": None, "finish_reason": None}
        return b"".join(self._chunk({"index": choice, **rest}) for choice in range(n))

    def _echoes(self, n: int, echo: str) -> bytes:
        return b"".join(self._chunk(self._choice(i, echo, None)) for i in range(n) if echo)

    def _choice(
        self,
        choice: int,
        text: str | None,
        reason: str | None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        if self._head.shape == "chat":
            body: dict[str, Any] = {"delta": {} if text is None else {"content": text}}
        else:
            body = {"text": text or ""}
        return {"index": choice, **body, "logprobs": logprobs, "finish_reason": reason}

    def _chunk(self, choice: dict[str, Any], more: Mapping[str, Any] = {}) -> bytes:
        told = {"choices": [choice], **more}
        return sse.data(sse.dump(self._head.fields(stream=True) | told))


class WholeEncoder:
    """Events to one JSON object, given out with the last of them."""

    def __init__(
        self,
        head: Head,
        *,
        n: int = 1,
        logprobs: Recorders = (),
        echo: str = "",
        parsers: Parsers = (),
    ) -> None:
        self._head = head
        self._logprobs = logprobs
        self._parsers = parsers
        self._pieces: list[list[str]] = [[echo] for _ in range(n)]
        self._choices: list[dict[str, Any]] = []

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._pieces[event.choice].append(text)
                if self._logprobs:
                    self._logprobs[event.choice].hold(event)
                return b""
            case Ended():
                self._choices.append(self._choice(event))
                return b""
            case Finished():
                self._choices.append(self._choice(event))
                return sse.dump(self._whole(event)).encode("ascii")
            case Failed(error):
                return dump_error(error).encode("ascii")

    def heartbeat(self) -> bytes:
        return b""

    def _choice(self, event: Ended | Finished) -> dict[str, Any]:
        text = "".join(self._pieces[event.choice])
        if self._head.shape == "chat":
            body: dict[str, Any] = {"message": self._message(event.choice, text)}
        else:
            body = {"text": text}
        told = self._logprobs[event.choice].ended(event) if self._logprobs else None
        reason = finish_reason(event, self._parsers[event.choice] if self._parsers else None)
        rest = {"logprobs": told, "finish_reason": reason}
        return {"index": event.choice, **body, **rest}

    def _message(self, choice: int, text: str) -> dict[str, Any]:
        if not self._parsers:
            return {"role": "assistant", "content": text, "refusal": None}
        parts = self._parsers[choice].push(text) + self._parsers[choice].flush()
        fields = render_message(parts, f"{self._head.number}:{choice}")
        return {"role": "assistant", **fields, "refusal": None}

    def _whole(self, finished: Finished) -> dict[str, Any]:
        choices = sorted(self._choices, key=lambda choice: int(choice["index"]))
        fields = self._head.fields(stream=False)
        usage = render_usage(finished.usage)
        return fields | {"choices": choices, "usage": usage} | self._head.times(finished)


def render_usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def render_model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "penstock"}
