"""Who holds a slot, who is prefilled, stepped, evicted and resumed: decisions only, no I/O.

Theory of operation. A sequence is in one of these states:

    WAITING --slot--> PREFILL --prompt done--> DECODE --last token--> ENDED
       ^                                         |
       |                                      evicted
       '--------- wants a token again ------- EVICTED         (and from anywhere: the reader leaves)

- A decoding sequence *wants* a token while its reader waits for one, or while it holds fewer than
  `lookahead` tokens that its reader has not taken. One that does not want is *parked*: it keeps
  its slot and is left out of every step until it wants again.
- When others wait for a slot and none is free, one parked for `park_grace_s` is evicted, the
  longest parked first. When it wants again it waits like a new one, in the same queue, and holds
  the slot it gets for at least `quantum_s`, so that two cannot keep throwing each other out.
- The queue is fair between accounts (`fairness`); several answers to one prompt are several
  sequences, of which the others arrive when the first has computed it.
- A turn is a set of moves (slots taken and given), one prompt chunk of one sequence, or one step of
  all that want. After `chunks_per_step` chunks in a row those that want are stepped: a long prompt
  delays running streams by a chunk, and running streams delay a prompt by a step. Prompts take
  chunks in rotation, so a short one overtakes a long one.
- A sequence that leaves in the middle of its turn keeps its slot until the turn is finished, since
  the model is still writing there. Otherwise its slot is free at once.

Time is what the caller says it is. Everything that changes the state of a sequence is in this file.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from penstock.fairness import PROMPT_COST, TOKEN_COST, FairQueue
from penstock.turns import Chunk, Entry, Moves, State, Step, Turn


@dataclass(slots=True)
class Schedule:
    """The queue, the slots and the turn order."""

    slots: int
    lookahead: int = 1
    chunks_per_step: int = 1
    park_grace_s: float = 0.5
    quantum_s: float = 0.25
    evictions: int = 0
    _waiting: FairQueue[Entry] = field(default_factory=FairQueue)
    _prefill: deque[Entry] = field(default_factory=deque)
    _decode: dict[Entry, None] = field(default_factory=dict)
    _evicted: dict[Entry, None] = field(default_factory=dict)
    _leaving: list[Entry] = field(default_factory=list)
    _released: list[Entry] = field(default_factory=list)
    _turn: Turn | None = None
    _chunks: int = 0

    def __repr__(self) -> str:
        return (
            f"<Schedule waiting={len(self._waiting)} prefill={len(self._prefill)} "
            f"decode={len(self._decode)} parked={self.parked} evicted={self.evicted} "
            f"free={self.free}>"
        )

    @property
    def free(self) -> int:
        return self.slots - len(self._prefill) - len(self._decode) - len(self._leaving)

    @property
    def waiting(self) -> int:
        """Those that wait for a slot, or for the prompt that they share to be computed."""
        return self._waiting.places + sum(len(entry.followers) for entry in self._prefill)

    @property
    def active(self) -> int:
        return self.slots - self.free

    @property
    def parked(self) -> int:
        """Those that hold a slot and do not want a token."""
        return sum(not self.wants(entry) for entry in self._decode)

    @property
    def evicted(self) -> int:
        """Those that do not want a token and have lost their slot."""
        return len(self._evicted)

    def wants(self, entry: Entry) -> bool:
        return entry.reading or entry.held < self.lookahead

    def arrive(self, entry: Entry, *followers: Entry) -> None:
        """A new sequence asks for a slot; `followers` do once its prompt is computed."""
        entry.state, entry.followers = State.WAITING, followers
        self._waiting.push(entry)

    def leave(self, entry: Entry) -> None:
        """A sequence's reader is gone, or has all it wanted. Idempotent."""
        match entry.state:
            case State.NEW:
                self._released.append(entry)
            case State.WAITING:
                self._waiting.remove(entry)
                self._released.append(entry)
            case State.EVICTED:
                del self._evicted[entry]
                self._released.append(entry)
            case State.PREFILL:
                self._prefill.remove(entry)
                self._let_go(entry)
            case State.DECODE:
                del self._decode[entry]
                self._let_go(entry)
        entry.state = State.ENDED

    def crowd(self, account: str, arriving: int, places: int) -> list[Entry]:
        """Who has to go so that `places` are free for `account`; none where that is unfair."""
        return self._waiting.crowd(account, arriving, places, lambda entry: not entry.begun)

    def read(self, entry: Entry) -> None:
        """The reader waits for a token."""
        entry.reading = True
        self._want(entry)

    def take(self, entry: Entry) -> None:
        """The reader took a token that was held for it."""
        entry.held -= 1
        if self.wants(entry):
            self._want(entry)

    def begin(self, now_s: float) -> Turn | None:
        """The next turn, or None when there is nothing to do. Pair each turn with `finish`."""
        self._turn = self._moves(now_s) or self._work()
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

    def prefilled(self, entry: Entry) -> None:
        """All of a prompt is in the KV cache, computed or copied."""
        self._prefill.remove(entry)
        self._decode[entry] = None
        entry.state = State.DECODE
        self._waiting.charge(entry, PROMPT_COST * entry.prompt_tokens)
        followers, entry.followers = entry.followers, ()
        for follower in followers:
            if follower.state is State.NEW:
                follower.begun = True
                self.arrive(follower)

    def made(self, entry: Entry, now_s: float, *, last: bool) -> None:
        """A token of `entry` was made: its reader takes it at once, or it is held."""
        self._waiting.charge(entry, TOKEN_COST)
        if entry.reading:
            entry.reading = False
        else:
            entry.held += 1
        if last:
            self.leave(entry)
        elif not self.wants(entry):
            entry.parked_s = now_s

    def wake_at_s(self) -> float:
        """When an eviction may become possible that somebody waits for; inf for never."""
        if not self._waiting:
            return inf
        return min((self._evictable_s(entry) for entry in self._decode), default=inf)

    def take_released(self) -> list[Entry]:
        """Sequences that hold nothing any more, since the last call."""
        released = self._released
        self._released = []
        return released

    def _members(self) -> tuple[Entry, ...]:
        return self._turn.entries if self._turn else ()

    def _moves(self, now_s: float) -> Moves | None:
        evicted = self._evict(len(self._waiting) - self.free, now_s)
        admitted = self._admit(now_s)
        return Moves(evicted, admitted) if evicted or admitted else None

    def _evict(self, short: int, now_s: float) -> tuple[Entry, ...]:
        ripe = [entry for entry in self._decode if self._evictable_s(entry) <= now_s]
        chosen = tuple(sorted(ripe, key=lambda entry: entry.parked_s)[: max(short, 0)])
        for entry in chosen:
            del self._decode[entry]
            self._evicted[entry] = None
            entry.state = State.EVICTED
        self.evictions += len(chosen)
        return chosen

    def _evictable_s(self, entry: Entry) -> float:
        if self.wants(entry):
            return inf
        return max(entry.parked_s + self.park_grace_s, entry.seated_s + self.quantum_s)

    def _admit(self, now_s: float) -> tuple[Entry, ...]:
        admitted = []
        while self._waiting and self.free:
            entry = self._waiting.pop()
            entry.state, entry.seated_s, entry.begun = State.PREFILL, now_s, True
            self._prefill.append(entry)
            admitted.append(entry)
        return tuple(admitted)

    def _work(self) -> Turn | None:
        wanting = tuple(entry for entry in self._decode if self.wants(entry))
        if self._prefill and (self._chunks < self.chunks_per_step or not wanting):
            self._chunks += 1
            return Chunk(self._prefill[0])
        self._chunks = 0
        return Step(wanting) if wanting else None

    def _want(self, entry: Entry) -> None:
        entry.parked_s = inf
        if entry.state is State.EVICTED:
            del self._evicted[entry]
            entry.state = State.WAITING
            self._waiting.push(entry)

    def _let_go(self, entry: Entry) -> None:
        (self._leaving if entry.in_turn else self._released).append(entry)
