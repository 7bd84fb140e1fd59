"""What became of one request. Every request that was begun has one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from penstock.loadgen.plan import Kind

Ending: TypeAlias = Literal[
    "done",
    "left",
    "held",
    "refused",
    "http",
    "error",
    "cut",
    "connect",
    "protocol",
    "timeout",
    "unfinished",
]
"""done: to its end. left, held: as was meant, by one that leaves or stops. refused: 429 or 503.
http: another status than 200. error: told inside the stream. cut: ended without an end.
connect: no connection. protocol: no HTTP, or no events. timeout: longer than it may take.
unfinished: the run was over first."""

ENDINGS: tuple[Ending, ...] = get_args(Ending)
MEANT: frozenset[Ending] = frozenset({"done", "left", "held"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times are in seconds on the clock of the run, which is at 0 when the load begins.

    `meant_s`: when the request should have begun. `begun_s`: when it did. `connected_s`: when the
    connection stood. `times`: when each piece of text was read. `tokens`: as the server counts the
    answer's, where it does.
    """

    number: int
    kind: Kind
    ending: Ending
    meant_s: float
    begun_s: float
    ended_s: float
    connected_s: float | None = None
    times: Sequence[float] = field(default_factory=lambda: array("d"))
    tokens: int | None = None
    prompt_tokens: int | None = None
    bytes_read: int = 0
    detail: str = ""

    @property
    def first_s(self) -> float | None:
        """Seconds from when it was meant to begin to its first piece of text."""
        return self.times[0] - self.meant_s if self.times else None

    @property
    def tokens_each(self) -> float:
        """Tokens of one piece of text: servers may send several at once, or half of one."""
        return self.tokens / len(self.times) if self.tokens and self.times else 1.0

    def tokens_between(self, start_s: float, end_s: float) -> float:
        """Tokens that were read from `start_s` on and before `end_s`."""
        return self.tokens_each * sum(start_s <= at < end_s for at in self.times)
