"""Places: how many requests are inside at once.

A place is taken before anything is tokenised or rendered, so that a refusal costs next to nothing.
One that gets a slot at once is always let in, `queue` more may wait for one, and there are never
more than `max_streams` in all, counting those that lost their slot while nobody read them. Where
the queue is full of one account's requests, another's takes the place of the latest of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, inf
from typing import TypeAlias

import trio

from penstock.errors import UNAVAILABLE, PenstockError, invalid, overloaded
from penstock.requests import ANYBODY, Caller

RETRY_AFTER_S = range(1, 61)
"""openai-python ignores 0 and gives up above 120; @huggingface/inference retries 503 at once."""
_SMOOTHING = 0.2


Displace: TypeAlias = Callable[[str, int, int, PenstockError], bool]
"""For an account with so many arriving: end others in so many places with an error, or nobody."""


@dataclass(frozen=True, slots=True)
class Room:
    """Slots: those that are free, and all."""

    free: int
    slots: int


class Place:
    """A request's place. Until it has `arrived` in the schedule, it is counted as waiting here."""

    def __init__(self, admission: Admission, sequences: int, account: str) -> None:
        self._admission = admission
        self._entering = sequences
        self._account = account
        admission.entering += sequences
        admission.entering_of[account] += sequences

    def arrived(self) -> None:
        """From here on the schedule knows of it. Idempotent."""
        self._admission.entering -= self._entering
        self._admission.entering_of.subtract({self._account: self._entering})
        self._admission.entering_of += Counter()  # drops what is 0
        self._entering = 0


class Admission:
    """Grants places; refuses at once beyond its bounds.

    `waiting` tells how many in the schedule wait for a slot, less the slots that are free;
    `displace` ends others that wait with an error, or says that nobody should have to go.
    """

    def __init__(
        self,
        *,
        slots: int,
        queue: int,
        max_streams: int,
        waiting: Callable[[], int],
        max_streams_per_client: int = 0,
        displace: Displace = lambda account, arriving, places, error: False,
    ) -> None:
        self.taken = 0
        self.entering = 0
        self.entering_of: Counter[str] = Counter()
        self.draining = False
        self._slots = slots
        self._queue = queue
        self._max_streams = max_streams
        self._per_client = max_streams_per_client or inf
        self._waiting = waiting
        self._displace = displace
        self._accounts: Counter[str] = Counter()
        self._service_s = 1.0

    def __repr__(self) -> str:
        return f"<Admission {self.taken} inside, {self.entering} of them entering>"

    @contextmanager
    def place(self, sequences: int = 1, caller: Caller = ANYBODY) -> Iterator[Place]:
        """Hold a place for each of `sequences`. Raises `PenstockError`."""
        account = caller.account
        self._check(sequences, caller)
        self.taken += sequences
        self._accounts[account] += sequences
        place = Place(self, sequences, account)
        started = trio.current_time()
        try:
            yield place
        finally:
            place.arrived()
            self.taken -= sequences
            self._accounts[account] -= sequences
            if not self._accounts[account]:
                del self._accounts[account]
            self._service_s += _SMOOTHING * (trio.current_time() - started - self._service_s)

    def held_by(self, account: str) -> int:
        """Places that `account` has."""
        return self._accounts[account]

    @property
    def places(self) -> int:
        """How many may be inside at once."""
        return min(self._slots + self._queue, self._max_streams)

    @property
    def room(self) -> Room:
        """Slots that no request has a place for."""
        return Room(0 if self.draining else max(self._slots - self.taken, 0), self._slots)

    @property
    def retry_after_s(self) -> int:
        """When to ask again: once half of those inside will have left, at the rate measured."""
        turnovers = self.taken / self._slots
        wait = ceil(self._service_s * turnovers / 2)
        return min(max(wait, RETRY_AFTER_S[0]), RETRY_AFTER_S[-1])

    def _check(self, sequences: int, caller: Caller) -> None:
        if self.draining:
            raise PenstockError(
                UNAVAILABLE, "the server is shutting down; try another or later", retry_after_s=5
            )
        streams = min(caller.streams or inf, self._per_client)
        most = min(self.places, streams)
        if sequences > most:
            raise invalid("n", f"n: you have {most} places here, and each answer takes one")
        if self._accounts[caller.account] + sequences > streams:
            raise overloaded(self.retry_after_s, "you have too many requests running")
        error = overloaded(self.retry_after_s)
        if self.taken + sequences > self._max_streams:
            raise error
        short = self._waiting() + self.entering + sequences - self._queue
        arriving = self.entering_of[caller.account] + sequences
        if short > 0 and not self._displace(caller.account, arriving, short, error):
            raise error
