"""Places: how many requests are inside at once.

A place is taken before anything is tokenised or rendered, so that a refusal costs next to nothing.
One that gets a slot at once is always let in, `queue` more may wait for one, and there are never
more than `max_streams` in all, counting those that lost their slot while nobody read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

import trio

from penstock.errors import OVERLOADED, UNAVAILABLE, PenstockError, invalid

RETRY_AFTER_S = range(1, 61)
"""openai-python ignores 0 and gives up above 120; @huggingface/inference retries 503 at once."""
_SMOOTHING = 0.2


class Place:
    """A request's place. Until it has `arrived` in the schedule, it is counted as waiting here."""

    def __init__(self, admission: Admission, sequences: int) -> None:
        self._admission = admission
        self._entering = sequences
        admission.entering += sequences

    def arrived(self) -> None:
        """From here on the schedule knows of it. Idempotent."""
        self._admission.entering -= self._entering
        self._entering = 0


class Admission:
    """Grants places; refuses at once beyond its bounds.

    `waiting` tells how many in the schedule wait for a slot, less the slots that are free.
    """

    def __init__(
        self, *, slots: int, queue: int, max_streams: int, waiting: Callable[[], int]
    ) -> None:
        self.taken = 0
        self.entering = 0
        self.draining = False
        self._slots = slots
        self._queue = queue
        self._max_streams = max_streams
        self._waiting = waiting
        self._service_s = 1.0

    def __repr__(self) -> str:
        return f"<Admission {self.taken} inside, {self.entering} of them entering>"

    @contextmanager
    def place(self, sequences: int = 1) -> Iterator[Place]:
        """Hold a place for each of `sequences`. Raises `PenstockError`."""
        self._check(sequences)
        self.taken += sequences
        place = Place(self, sequences)
        started = trio.current_time()
        try:
            yield place
        finally:
            place.arrived()
            self.taken -= sequences
            self._service_s += _SMOOTHING * (trio.current_time() - started - self._service_s)

    @property
    def places(self) -> int:
        """How many may be inside at once."""
        return min(self._slots + self._queue, self._max_streams)

    @property
    def retry_after_s(self) -> int:
        """When to ask again: once half of those inside will have left, at the rate measured."""
        turnovers = self.taken / self._slots
        wait = ceil(self._service_s * turnovers / 2)
        return min(max(wait, RETRY_AFTER_S[0]), RETRY_AFTER_S[-1])

    def _check(self, sequences: int) -> None:
        if self.draining:
            raise PenstockError(
                UNAVAILABLE, "the server is shutting down; try another or later", retry_after_s=5
            )
        if sequences > self.places:
            message = f"n: this server has {self.places} places, and each answer takes one"
            raise invalid("n", message)
        ahead = self._waiting() + self.entering + sequences
        if ahead > self._queue or self.taken + sequences > self._max_streams:
            raise PenstockError(
                OVERLOADED,
                "all places are taken; try again after the time in Retry-After",
                retry_after_s=self.retry_after_s,
            )
