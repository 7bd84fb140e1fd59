"""How one generation ended and what it took: its metrics, its log line and its span tell this."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.events import Figures
from penstock.origin import Origin
from penstock.requests import Prompt


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of which model, and when it arrived, in Trio's time.

    `text` is the prompt's, where it may be logged.
    """

    model: str = ""
    arrived_s: float = 0.0
    chat: bool = False
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of one generation. Times ending in `_at_s` are Trio's, all are in seconds.

    `code` is that of the error that ended it. `undelivered_tokens` were computed and never written
    to a reader whole; a job's reader is its log. `blocked_s` was spent in writes.
    """

    reason: str
    code: str | None
    origin: Origin
    asked: Asked
    prompt: Prompt
    completion_tokens: int
    undelivered_tokens: int
    blocked_s: float
    seated_at_s: float | None
    first_at_s: float | None
    ended_at_s: float
    figures: Figures = field(repr=False)

    @property
    def total_s(self) -> float:
        return self.ended_at_s - self.asked.arrived_s

    def told(self) -> dict[str, object]:
        """The fields of its log line."""
        fields = {
            "reason": self.reason,
            "code": self.code,
            **self.origin.told(),
            "account": self.prompt.caller.account,
            "model": self.asked.model,
            "choices": self.prompt.n,
            "prompt_tokens": len(self.prompt.token_ids),
            "completion_tokens": self.completion_tokens,
            "undelivered_tokens": self.undelivered_tokens,
            "queue_s": self.figures.queue_s,
            "ttft_s": self.figures.ttft_s,
            "total_s": self.total_s,
            "blocked_s": self.blocked_s,
            "tokens_per_s": self.figures.tokens_per_s,
            "prompt": self.asked.text,
        }
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in fields.items()
            if value is not None
        }
