"""Places: how many requests are inside at once, slots and queue together.

A place is taken before anything is tokenised or rendered, so that a refusal costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import trio

from penstock.errors import OVERLOADED, UNAVAILABLE, PenstockError

RETRY_AFTER_S = range(1, 61)
"""openai-python ignores 0 and gives up above 120; @huggingface/inference retries 503 at once."""
_SMOOTHING = 0.2


class Admission:
    """Grants `slots + queue` places; refuses at once beyond them."""

    def __init__(self, *, slots: int, queue: int) -> None:
        self.places = slots + queue
        self.taken = 0
        self.draining = False
        self._slots = slots
        self._service_s = 1.0

    def __repr__(self) -> str:
        return f"<Admission {self.taken} of {self.places} places taken>"

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place. Raises `PenstockError`, overloaded or unavailable."""
        self._check()
        self.taken += 1
        started = trio.current_time()
        try:
            yield
        finally:
            self.taken -= 1
            self._service_s += _SMOOTHING * (trio.current_time() - started - self._service_s)

    @property
    def retry_after_s(self) -> int:
        """When to ask again: once half of those inside will have left, at the rate measured."""
        turnovers = self.taken / self._slots
        wait = ceil(self._service_s * turnovers / 2)
        return min(max(wait, RETRY_AFTER_S[0]), RETRY_AFTER_S[-1])

    def _check(self) -> None:
        if self.draining:
            raise PenstockError(
                UNAVAILABLE, "the server is shutting down; try another or later", retry_after_s=5
            )
        if self.taken >= self.places:
            raise PenstockError(
                OVERLOADED,
                "all places are taken; try again after the time in Retry-After",
                retry_after_s=self.retry_after_s,
            )
