"""Request fields that several dialects share, and how they become a `GenerateRequest`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import (
    CONTEXT_LENGTH,
    INVALID_VALUE,
    PenstockError,
    invalid,
    unsupported,
)
from penstock.protocols.earlier_calls import parse_calls
from penstock.requests import Biases, Message, Sampling, TemplateOptions

MAX_STOPS = 4
MAX_STOP_CHARACTERS = 1024
MAX_BIASES = 1024
TEMPLATE_OPTIONS = "chat_template_kwargs"
BIAS = 100
"""Logits are shifted by at most this, in either direction."""
ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {"developer": "system"}

# One way to write each id, so that none is there twice.
_TOKEN_ID = re.compile("0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Numbers from `low` to `high`; `exclusive` leaves out `low` itself. NaN is in none."""

    low: float
    high: float
    exclusive: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and not (self.exclusive and value == self.low)

    def __str__(self) -> str:
        return f"{'above' if self.exclusive else 'at least'} {self.low} and at most {self.high}"


BOUNDS: Mapping[str, Bounds] = {
    "max_tokens": Bounds(1, 1 << 20),
    "max_completion_tokens": Bounds(1, 1 << 20),
    "max_output_tokens": Bounds(1, 1 << 20),
    "temperature": Bounds(0, 2),
    "top_p": Bounds(0, 1, exclusive=True),
    "top_k": Bounds(-1, 1 << 20),
    "seed": Bounds(-(2**63), 2**63 - 1),
    "n": Bounds(1, 128),
    "best_of": Bounds(1, 128),
    "frequency_penalty": Bounds(-2, 2),
    "presence_penalty": Bounds(-2, 2),
    # Nearer to zero it would send logits beyond single precision.
    "repetition_penalty": Bounds(0.01, 10),
    "min_p": Bounds(0, 1),
    "logprobs": Bounds(0, 20),
    "top_logprobs": Bounds(0, 20),
    "credits": Bounds(0, 2**53),
    "window": Bounds(1, 2**53),
}
"""Kept apart from the types: a wrong type is a malformed message, a wrong value is refused, and
the WebSocket protocol closes for the former only."""

LENGTHS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"})
"""Tokens of an answer: more than the bound is more than any model's context holds."""


class TextPart(msgspec.Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct):
    role: str
    content: str | list[TextPart] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class SamplingBody(msgspec.Struct):
    """How to draw tokens and when to stop. Null means absent; values are not checked yet."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    min_p: float | None = None


def parse_sampling(body: SamplingBody) -> dict[str, Any]:
    """Keyword arguments for `GenerateRequest`. Raises `PenstockError`."""
    check_bounds(body)
    sampling = Sampling.of(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=parse_bias(body.logit_bias),
        seed=parse_seed(body.seed),
    )
    return {
        "model": body.model,
        "sampling": sampling,
        "stop": parse_stop(body.stop),
        "ignore_eos": bool(body.ignore_eos),
        "n": body.n or 1,
    }


def parse_bias(bias: Mapping[str, float] | None) -> Biases:
    """Token ids, written in decimal, and amounts. The vocabulary's size is not known here."""
    if len(bias or ()) > MAX_BIASES:
        raise invalid("logit_bias", f"logit_bias takes at most {MAX_BIASES} tokens")
    return tuple((_token_id(name), _bias(amount)) for name, amount in (bias or {}).items())


def parse_seed(seed: int | None) -> int | None:
    """A signed seed as the unsigned one with the same bits."""
    return None if seed is None else seed % 2**64


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


def parse_stop(stop: str | Sequence[str] | None, name: str = "stop") -> tuple[str, ...]:
    """At most four stop strings, none empty, from the field called `name`."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        raise invalid(name, f"{name} takes at most {MAX_STOPS} strings")
    if any(not 0 < len(text) <= MAX_STOP_CHARACTERS for text in stops):
        raise invalid(name, f"{name}: a stop string has 1 to {MAX_STOP_CHARACTERS} characters")
    return stops


def parse_template_options(options: Mapping[str, object] | None) -> TemplateOptions:
    """Names and plain values; which names a model's template knows is not known here."""
    return tuple((name, _plain_value(value)) for name, value in (options or {}).items())


def check_bounds(body: msgspec.Struct, table: Mapping[str, Bounds] = BOUNDS) -> None:
    """Refuse the first number that is out of its bounds."""
    for name in body.__struct_fields__:
        value, bounds = getattr(body, name), table.get(name)
        if bounds is not None and value is not None and value not in bounds:
            kind = CONTEXT_LENGTH if name in LENGTHS and value > bounds.high else INVALID_VALUE
            raise PenstockError(kind, f"{name} must be {bounds}", param=name)


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


def _plain_value(value: object) -> str | int | float | bool:
    if isinstance(value, str | int | float):
        return value
    raise invalid(
        TEMPLATE_OPTIONS, f"{TEMPLATE_OPTIONS}: each value must be a string, a number or a boolean"
    )


def _token_id(name: str) -> int:
    if not _TOKEN_ID.fullmatch(name):
        raise invalid("logit_bias", "logit_bias: each key must be a token id, written in decimal")
    return int(name)


def _bias(amount: float) -> float:
    if not -BIAS <= amount <= BIAS:
        raise invalid("logit_bias", f"logit_bias: each value must be {Bounds(-BIAS, BIAS)}")
    return amount


def _message(index: int, message: ChatMessage) -> Message:
    where = f"messages[{index}]"
    role = ROLES.get(message.role)
    if role is None:
        raise invalid(f"{where}.role", "role must be system, developer, user, assistant or tool")
    content = message.content
    if isinstance(content, list):
        content = "".join(_text(where, part) for part in content)
    if content is None and role != "assistant":
        raise invalid(f"{where}.content", "content is required")
    calls = parse_calls(where, message.tool_calls) if role == "assistant" else ()
    if role == "tool":
        return Message(role, content or "", (), message.tool_call_id, message.name)
    return Message(role, content or "", calls)


def _text(where: str, part: TextPart) -> str:
    if part.type != "text" or part.text is None:
        raise unsupported(f"{where}.content", "content parts must be of type text")
    return part.text
