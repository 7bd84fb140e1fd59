"""How far a generation had come when its process was lost, for the one that goes on with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.events import Delta, Ended, Event


@dataclass(frozen=True, slots=True)
class Progress:
    """What was told of one choice: its tokens, how many events they came in, and its end."""

    tokens: tuple[int, ...] = ()
    events: int = 0
    ended: Ended | None = None

    def with_event(self, event: Delta | Ended) -> Progress:
        told = tuple(token.token_id for token in event.tokens)
        ended = event if isinstance(event, Ended) else None
        return Progress(self.tokens + told, self.events + 1, ended)


def read_progress(events: Iterable[Event], choices: int) -> list[Progress]:
    """For each choice, from events none of which is terminal."""
    made = [Progress() for _ in range(choices)]
    for event in events:
        if isinstance(event, Delta | Ended):
            made[event.choice] = made[event.choice].with_event(event)
    return made
