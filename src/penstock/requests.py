"""One request as every dialect states it, whatever the JSON looked like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self, TypeAlias

SEED_LIMIT = 2**63
_SMALLEST_TEMPERATURE = 2.0**-126
"""Logits are divided in single precision, which rounds what is smaller to zero."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of something an account may use. A minute is a pace, a day is a quota."""

    unit: Literal["requests_per_minute", "tokens_per_minute", "tokens_per_day"]
    amount: int


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose account a request runs.

    `account` is an API key's name or a client's address: slots are shared out fairly between
    accounts, one of twice the `weight` getting twice as much. Prompts share KV with others of the
    same `scope` only: the time to the first token would tell one what another has asked.
    `streams` 0 sets no limit of its own; no `models` means all of them.
    """

    account: str = ""
    scope: str = ""
    weight: float = 1.0
    streams: int = 0
    models: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    admin: bool = False


ANYBODY = Caller()

Biases: TypeAlias = tuple[tuple[int, float], ...]
"""Token ids, each once, and what is added to their logits."""


TemplateOptions: TypeAlias = tuple[tuple[str, str | int | float | bool], ...]
"""Names and values, each name once."""

DEFAULTED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""The sampling parameters for which a model's files may state another default."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. `role` is one of system, user, assistant, tool.

    `tool_calls` are as templates take them: arguments are objects, not strings.
    """

    role: str
    content: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must look like: a JSON schema, a regular expression or a Lark grammar.

    `param` is the request's field that it came in.
    """

    kind: Literal["json", "regex", "lark"]
    text: str
    param: str = "response_format"


class Constraint(Protocol):
    """A compiled grammar."""

    def start(self) -> Any:  # noqa: ANN401  # the engine's own
        """The state of one sequence."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Functions that the model may call, as OpenAI describes them.

    `forced` says that the answer must be a call. `choice` narrows them to the one of that name.
    """

    definitions: tuple[dict[str, Any], ...]
    forced: bool = False
    choice: str | None = None
    parallel: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tool["function"]["name"] for tool in self.definitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a token is drawn from the logits.

    `temperature` 0 is greedy, whatever the seed. `top_k` 0, `top_p` 1, `min_p` 0, penalties of 0
    and a `repetition_penalty` of 1 switch those off. `seed` None means that one is drawn when the
    request is admitted.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Biases = ()
    seed: int | None = None
    unset: tuple[str, ...] = field(default=(), compare=False)
    """Which of `DEFAULTED` were left to the model."""

    @classmethod
    def of(cls, **given: Any) -> Self:  # noqa: ANN401  # each field has a type of its own
        """From what a client states; None stands for nothing stated."""
        stated = {name: value for name, value in given.items() if value is not None}
        return cls(**stated, unset=tuple(name for name in DEFAULTED if name not in stated))

    def over(self, defaults: Mapping[str, float]) -> Self:
        """With the model's `defaults` for what was left to it."""
        taken: dict[str, Any] = {
            name: value for name, value in defaults.items() if name in self.unset
        }
        return replace(self, **taken, unset=()) if taken else self

    @property
    def greedy(self) -> bool:
        return self.temperature < _SMALLEST_TEMPERATURE

    @property
    def adjusts(self) -> bool:
        """Whether logits change before a token is drawn from them."""
        return bool(
            self.logit_bias
            or self.frequency_penalty
            or self.presence_penalty
            or self.repetition_penalty != 1.0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What to generate. Exactly one of `prompt` and `messages` is set.

    With `suffix`, `prompt` is what comes before a gap and `suffix` what comes behind it.
    """

    prompt: str | None = None
    suffix: str | None = None
    messages: tuple[Message, ...] | None = None
    model: str | None = None
    max_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    caller: Caller = ANYBODY
    n: int = 1
    """How many answers, drawn independently."""
    logprobs: int | None = None
    """How many alternatives to report beside each token's own log probability; None is off."""
    truncate: int | None = None
    """How many tokens of the prompt to keep, the last ones; None keeps all."""
    template_options: TemplateOptions = ()
    """Variables for the chat template."""
    grammar: Grammar | None = None
    tools: Tools | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("a request has either a prompt or messages")

    @property
    def prompt_field(self) -> str:
        return "prompt" if self.messages is None else "messages"

    @property
    def told_prompt(self) -> str:
        """All that was said, for a log."""
        if self.messages is None:
            return self.prompt or ""
        return "\n".join(f"{message.role}: {message.content}" for message in self.messages)

    @property
    def characters(self) -> int:
        """Length of all that will be tokenised."""
        if self.messages is None:
            return len(self.prompt or "") + len(self.suffix or "")
        tools = sum(len(str(tool)) for tool in self.tools.definitions) if self.tools else 0
        return tools + sum(map(_characters, self.messages))


def _characters(message: Message) -> int:
    calls = sum(len(str(call)) for call in message.tool_calls)
    return len(message.role) + len(message.content) + calls


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised request, ready for the engine. `max_tokens` fits the context."""

    token_ids: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    seed: int
    ignore_eos: bool
    caller: Caller = ANYBODY
    logprobs: int | None = None
    n: int = 1
    given: tuple[tuple[int, ...], ...] = ()
    """Of each choice, what another process has made: it is computed again and not handed over."""
    constraint: Constraint | None = None
