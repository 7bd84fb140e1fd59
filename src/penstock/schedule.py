"""Who holds a slot, who is prefilled and who is stepped next: decisions only, no I/O, no clock.

Theory of operation. A sequence is in one of these states:

    WAITING --slot free--> PREFILL --prompt done--> DECODE --last token--> ENDED
       \\______________________\\_______________________\\____ reader leaves ____/

- A decoding sequence *wants* a token while its reader waits for one, or while it holds fewer than
  `lookahead` tokens that its reader has not taken. One that does not want is *parked*: it keeps
  its slot and is left out of every step until it wants again.
- A turn is one prompt chunk of one sequence, or one step of all sequences that want. After
  `chunks_per_step` chunks in a row those that want are stepped, so a long prompt delays running
  streams by a chunk, and running streams delay a prompt by a step.
- Sequences in prefill take chunks in rotation: a short prompt overtakes a long one.
- A sequence that leaves in the middle of its turn keeps its slot until the turn is finished, since
  the model is still writing there. Otherwise its slot is free at once.

Everything that changes the state of a sequence happens in this file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto


class State(Enum):
    WAITING = auto()
    PREFILL = auto()
    DECODE = auto()
    ENDED = auto()


@dataclass(slots=True, eq=False)
class Entry:
    """One sequence as the schedule sees it.

    `held` counts tokens made and not yet taken; `reading` is true while its reader waits for one.
    """

    state: State = State.WAITING
    held: int = 0
    reading: bool = False
    in_turn: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute the next prompt chunk of one sequence."""

    entry: Entry

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (self.entry,)


@dataclass(frozen=True, slots=True)
class Step:
    """Compute one token for each of these sequences, together."""

    entries: tuple[Entry, ...]


Turn = Chunk | Step


@dataclass(slots=True)
class Schedule:
    """The queue, the slots and the turn order."""

    slots: int
    lookahead: int = 1
    chunks_per_step: int = 1
    _waiting: deque[Entry] = field(default_factory=deque)
    _prefill: deque[Entry] = field(default_factory=deque)
    _decode: dict[Entry, None] = field(default_factory=dict)
    _leaving: list[Entry] = field(default_factory=list)
    _released: list[Entry] = field(default_factory=list)
    _turn: Turn | None = None
    _chunks: int = 0

    def __repr__(self) -> str:
        return (
            f"<Schedule waiting={len(self._waiting)} prefill={len(self._prefill)} "
            f"decode={len(self._decode)} parked={self.parked} free={self.free}>"
        )

    @property
    def free(self) -> int:
        return self.slots - len(self._prefill) - len(self._decode) - len(self._leaving)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        return self.slots - self.free

    @property
    def parked(self) -> int:
        return sum(not self.wants(entry) for entry in self._decode)

    def wants(self, entry: Entry) -> bool:
        return entry.reading or entry.held < self.lookahead

    def arrive(self, entry: Entry) -> None:
        """A new sequence asks for a slot."""
        self._waiting.append(entry)

    def leave(self, entry: Entry) -> None:
        """A sequence's reader is gone, or has all it wanted. Idempotent."""
        if entry.state is State.WAITING:
            self._waiting.remove(entry)
        elif entry.state is not State.ENDED:
            self._give_up_slot(entry)
        entry.state = State.ENDED

    def admit(self) -> Iterator[Entry]:
        """Give free slots to those that wait, in order of arrival."""
        while self._waiting and self.free:
            entry = self._waiting.popleft()
            entry.state = State.PREFILL
            self._prefill.append(entry)
            yield entry

    def begin(self) -> Turn | None:
        """The next turn, or None when nobody wants anything. Pair each turn with `finish`."""
        wanting = tuple(entry for entry in self._decode if self.wants(entry))
        if self._prefill and (self._chunks < self.chunks_per_step or not wanting):
            self._chunks += 1
            self._turn = Chunk(self._prefill[0])
        elif wanting:
            self._chunks = 0
            self._turn = Step(wanting)
        else:
            self._turn = None
        for entry in self._members():
            entry.in_turn = True
        return self._turn

    def finish(self) -> None:
        """The turn's work has returned: slots of those that left in its course are free now."""
        for entry in self._members():
            entry.in_turn = False
        if isinstance(self._turn, Chunk) and self._turn.entry.state is State.PREFILL:
            self._prefill.rotate(-1)
        self._turn = None
        self._released += self._leaving
        self._leaving.clear()

    def made(self, entry: Entry, *, last: bool) -> None:
        """A token of `entry` was made. Its first one ends prefill, its last one frees its slot."""
        entry.held += 1
        if entry.state is State.PREFILL:
            self._prefill.remove(entry)
            self._decode[entry] = None
            entry.state = State.DECODE
        if last:
            self.leave(entry)

    def take_released(self) -> list[Entry]:
        """Sequences whose slots became free since the last call."""
        released = self._released
        self._released = []
        return released

    def _members(self) -> tuple[Entry, ...]:
        return self._turn.entries if self._turn else ()

    def _give_up_slot(self, entry: Entry) -> None:
        if entry.state is State.PREFILL:
            self._prefill.remove(entry)
        else:
            del self._decode[entry]
        (self._leaving if entry.in_turn else self._released).append(entry)
