"""The words of the schedule: what a sequence is to it, and what it can ask to be done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import TypeAlias


class State(Enum):
    NEW = auto()
    WAITING = auto()
    PREFILL = auto()
    DECODE = auto()
    EVICTED = auto()
    ENDED = auto()


@dataclass(slots=True, eq=False)
class Entry:
    """One sequence as the schedule sees it.

    `account` is who is charged for it, and `weight` how much more than others that one may have.
    `followers` are the other answers to the same prompt, until that is computed. It has `begun`
    once it, or the one it followed, was given a slot.
    `held` counts tokens made and not yet taken; `reading` is true while its reader waits for one.
    Times are in seconds: when its slot was given, and since when it is parked (inf: it is not).
    """

    account: str = ""
    weight: float = 1.0
    prompt_tokens: int = 0
    followers: tuple[Entry, ...] = ()
    begun: bool = False
    state: State = State.NEW
    held: int = 0
    reading: bool = False
    in_turn: bool = False
    seated_s: float = -inf
    parked_s: float = inf

    @property
    def places(self) -> int:
        """How many slots it waits for, with its followers."""
        return 1 + len(self.followers)


@dataclass(frozen=True, slots=True)
class Moves:
    """Take slots from some, then give slots to others."""

    evicted: tuple[Entry, ...]
    admitted: tuple[Entry, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.evicted + self.admitted


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute the next prompt chunk of one sequence."""

    entry: Entry

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (self.entry,)


@dataclass(frozen=True, slots=True)
class Step:
    """Compute one position for each of these sequences, together."""

    entries: tuple[Entry, ...]


Turn: TypeAlias = Moves | Chunk | Step
