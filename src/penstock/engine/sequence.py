"""What the engine keeps of one sequence, and what the choices of one request share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from penstock.engine.grammar import Matcher
from penstock.engine.spec import Logits
from penstock.events import FinishReason, Token
from penstock.requests import Prompt


@dataclass(frozen=True, slots=True)
class Sampled(Token):
    """A token just made. `end` is set on the last; an EOS token is the last and has no text."""

    end: FinishReason | None = None


class BrokenRowError(Exception):
    """The model gave one sequence something that is not a distribution."""


# What one sequence gets from a turn: a token, nothing yet, or what went wrong with it alone.
Result = Sampled | Exception | None


@dataclass(slots=True, eq=False)
class Root:
    """The computed prompt that all choices of one request begin with.

    A copy of its KV lies among the parked ones under `key`, as long as their budget allows;
    `logits` are those of its last token, `[vocab]`. `users` counts the choices still open.
    """

    key: int
    users: int = 0
    logits: Logits | None = None


@dataclass(slots=True, eq=False)
class EngineSequence:
    """What the engine keeps of one sequence. Callers only hold it.

    `tokens` are those made so far. `cached` counts the positions in its KV row: the prompt and all
    tokens but the last, or fewer while an evicted sequence is being rebuilt.
    """

    key: int
    prompt: Prompt
    token_ids: npt.NDArray[np.int64]
    digests: list[bytes]
    root: Root | None = None
    choice: int = 0
    cached: int = 0
    tokens: list[int] = field(default_factory=list)
    matcher: Matcher | None = None
    """Follows `tokens` through the grammar, from the first draw on."""

    @property
    def prefilled(self) -> bool:
        return self.cached >= len(self.token_ids)

    @property
    def next_input(self) -> int:
        """The token whose KV the next step computes."""
        return self.tokens[self.cached - len(self.token_ids)]

    @property
    def replaying(self) -> bool:
        """Whether the newest token computed from the KV is one that was made before."""
        return self.cached < len(self.token_ids) + len(self.tokens)

    def matching(self) -> Matcher | None:
        """Where the sequence is in its grammar, if it has one."""
        if self.matcher is None and self.prompt.constraint is not None:
            self.matcher = self.prompt.constraint.start()
            for token_id in self.tokens:  # those that another process has made
                self.matcher.accept(token_id)
        return self.matcher
