"""What a generation may take of time, watched for all of them by one task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

import trio

from penstock.errors import DEADLINE, PenstockError
from penstock.live import Live


class Deadline:
    """Ends what has run for `after_s`, and says why. 0 seconds set no limit.

    All are given the same time, so the first to begin is the first to end, and a dict in order of
    beginning is all that has to be kept: a task for each stream would cost more than its deadline.
    """

    def __init__(self, after_s: float, why: str) -> None:
        self._after_s = after_s or inf
        self._why = why
        self._running: dict[Live, tuple[float, Callable[[], bool]]] = {}
        self._news = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Deadline {self._after_s} s of {len(self._running)}>"

    @contextmanager
    def of(self, live: Live, spares: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """End `live` if the block takes too long, unless `spares` says then that it is well."""
        if self._after_s == inf:
            yield
            return
        self._running[live] = (trio.current_time() + self._after_s, spares)
        self._news.unpark_all()
        try:
            yield
        finally:
            self._running.pop(live, None)

    async def run(self) -> None:
        while True:
            # What woke this may have ended before this runs.
            while not self._running:
                await self._news.park()
            live, (at_s, spares) = next(iter(self._running.items()))
            await trio.sleep_until(at_s)
            if self._running.pop(live, None) and not spares():
                live.stop(PenstockError(DEADLINE, self._why))
