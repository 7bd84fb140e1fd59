"""What travels from a decode task to its writer, one object at a time.

`through` is the 1-based index of the last token that an event covers, so that whoever holds the
wire can say how far the model has run ahead of its reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from penstock.errors import PenstockError

FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one generation. `completion` counts EOS and the tokens of a cut-off stop string."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Token:
    """One token. The log probabilities, its own and those of the likeliest, only if asked for."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """How one generation went, in seconds since it was asked for; None where it never came to that.

    `tokens_per_s` is the rate after the first token.
    """

    queue_s: float | None
    ttft_s: float | None
    tokens: int
    tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text that is never empty, and the tokens that completed it.

    `settled` is false where more of its last token's text is held back, or nothing but the end
    follows: some dialects tell of a token once, with all of its text, and of the end with the last.
    """

    text: str
    tokens: tuple[Token, ...]
    through: int
    choice: int = 0
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """One of several choices has ended, and others have not.

    `tokens` are those since its last delta: EOS, a half character, the rest of a stop string.
    `cut` is the stop string that ended the text, if one did; some tokens may have text beyond it.
    """

    finish_reason: FinishReason
    through: int
    tokens: tuple[Token, ...] = ()
    cut: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The normal end, that of the last choice with it. Nothing follows it.

    `usage` is that of all choices; the other fields are as those of `Ended`.
    """

    finish_reason: FinishReason
    usage: Usage
    through: int
    tokens: tuple[Token, ...] = ()
    cut: str | None = None
    choice: int = 0
    figures: Figures | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a generation that could not finish. Nothing follows it."""

    error: PenstockError
    figures: Figures | None = None


Terminal: TypeAlias = Finished | Failed
Event: TypeAlias = Delta | Ended | Terminal
