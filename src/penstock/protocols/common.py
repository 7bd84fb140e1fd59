"""Request fields that several dialects share, and how they become a `GenerateRequest`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from penstock.errors import PenstockError, invalid, unsupported
from penstock.requests import Message, Sampling

MAX_STOPS = 4
MAX_STOP_CHARACTERS = 1024
ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {"developer": "system"}

Tokens = Annotated[int, Meta(ge=1, le=1 << 20)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class TextPart(msgspec.Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct):
    role: str
    content: str | list[TextPart] | None = None


class SamplingBody(msgspec.Struct):
    """How to draw tokens and when to stop. Null means absent."""

    model: str | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: float | None = None
    min_p: float | None = None


def parse_sampling(body: SamplingBody) -> dict[str, Any]:
    """Keyword arguments for `GenerateRequest`. Raises `PenstockError`."""
    refuse(
        n=(body.n or 1) > 1,
        logit_bias=bool(body.logit_bias),
        frequency_penalty=bool(body.frequency_penalty),
        presence_penalty=bool(body.presence_penalty),
        repetition_penalty=(body.repetition_penalty or 1) != 1,
        min_p=bool(body.min_p),
    )
    sampling = Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(body.top_k or 0, 0),
        seed=None if body.seed is None else body.seed % 2**64,
    )
    return {
        "model": body.model,
        "sampling": sampling,
        "stop": parse_stop(body.stop),
        "ignore_eos": bool(body.ignore_eos),
    }


def parse_messages(messages: Sequence[ChatMessage] | None) -> tuple[Message, ...]:
    """At least one message, each of text only."""
    if not messages:
        raise invalid("messages", "messages must be a list with at least one message")
    return tuple(_message(index, message) for index, message in enumerate(messages))


def parse_prompt(prompt: str | list[Any] | None) -> str:
    """One string that is not empty; a list of one string is the same."""
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise invalid("prompt", "prompt must be one string, or a list of one string")
        prompt = prompt[0]
    if not prompt:
        raise invalid("prompt", "prompt must be a string that is not empty")
    return prompt


def parse_stop(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """At most four stop strings, none empty."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        raise invalid("stop", f"stop takes at most {MAX_STOPS} strings")
    if any(not 0 < len(text) <= MAX_STOP_CHARACTERS for text in stops):
        raise invalid("stop", f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters")
    return stops


def refuse(**present: bool) -> None:
    """Refuse the first field that is present: ignoring it would change the result silently."""
    for name, is_present in present.items():
        if is_present:
            raise unsupported(name, f"{name} is not supported by this server; leave it out")


def render_error(error: PenstockError) -> dict[str, Any]:
    """The OpenAI error object; `retry_after` only where there is something to wait for."""
    told: dict[str, Any] = {
        "message": error.message,
        "type": error.kind.type,
        "param": error.param,
        "code": error.kind.code,
    }
    if error.retry_after_s is not None:
        told["retry_after"] = error.retry_after_s
    return told


def _message(index: int, message: ChatMessage) -> Message:
    where = f"messages[{index}]"
    role = ROLES.get(message.role)
    if role is None:
        raise invalid(f"{where}.role", "role must be system, developer, user, assistant or tool")
    if isinstance(message.content, list):
        return Message(role, "".join(_text(where, part) for part in message.content))
    if message.content is None and role != "assistant":
        raise invalid(f"{where}.content", "content is required")
    return Message(role, message.content or "")


def _text(where: str, part: TextPart) -> str:
    if part.type != "text" or part.text is None:
        raise unsupported(f"{where}.content", "content parts must be of type text")
    return part.text
