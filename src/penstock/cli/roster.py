"""Which of several processes is to be started when: a decision that knows no process and no clock.

Until one of them has served, nothing says that any ever will, and the first that ends is the end of
all. After that each that ends is replaced, at once where it served for long, and else ever later.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a place stays empty after a process that did not serve for `steady_s`.

    `first_s`, then twice as long each time, at most `most_s`. Where nobody serves, and at each
    place `tries` starts in a row have come to nothing, there are no more.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    steady_s: float = 60.0
    tries: int = 5

    def after_s(self, failures: int) -> float:
        # 2.0 ** 1024 is an error.
        return min(self.first_s * 2.0 ** min(failures - 1, 64), self.most_s) if failures else 0.0


@dataclass(slots=True, eq=False)
class Place:
    """Of one process after another. `due_s` is infinite while there is one.

    `failures` are those in a row that did not serve for long, `barren` those that did not at all.
    """

    due_s: float = -inf
    serves_since_s: float | None = None
    failures: int = 0
    barren: int = 0


class Roster:
    """`count` places, which are to be filled as long as that makes sense."""

    def __init__(self, count: int, backoff: Backoff) -> None:
        self._places = [Place() for _ in range(count)]
        self._backoff = backoff
        self._proven = False
        self.stopping = False

    @property
    def next_s(self) -> float:
        """When a process is to be started next; infinite where none is."""
        return min(place.due_s for place in self._places)

    def fill(self, now_s: float) -> Place | None:
        """The next place that is to get its process now, taken for filled from here on."""
        due = next((place for place in self._places if place.due_s <= now_s), None)
        if due is not None:
            due.due_s = inf
        return due

    def serves(self, place: Place, now_s: float) -> None:
        """The process there has come to serving."""
        place.serves_since_s = now_s
        self._proven = True

    def ended(self, place: Place, now_s: float) -> float | None:
        """The process there has ended, or could not be started: seconds until there is another.

        None where there will be none: all others are to end, too.
        """
        since_s, place.serves_since_s = place.serves_since_s, None
        place.barren = place.barren + 1 if since_s is None else 0
        if self.stopping or not self._proven or self._is_hopeless():
            self.stop()
            return None
        steady = since_s is not None and now_s - since_s >= self._backoff.steady_s
        place.failures = 0 if steady else place.failures + 1
        after_s = self._backoff.after_s(place.failures)
        place.due_s = now_s + after_s
        return after_s

    def stop(self) -> None:
        """No place is filled any more."""
        self.stopping = True
        for place in self._places:
            place.due_s = inf

    def _is_hopeless(self) -> bool:
        """Whoever watches this command can only help where it does not live on without a server."""
        served = any(place.serves_since_s is not None for place in self._places)
        return not served and all(each.barren >= self._backoff.tries for each in self._places)
