"""A log as a source of events, for one reader."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.events import Failed, Finished, Terminal
from penstock.jobs.store import Log
from penstock.live import Live
from penstock.pipeline import Emit

BATCH = 64


class Reading(Live):
    """A reader that is told nothing but what the log says: it ends with that, or is cut off."""

    def stop(self, error: PenstockError) -> None:
        """A drain stops the job as well, and the log will say so."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Emits the events behind number `after`, and goes on with those that are still being made."""

    log: Log
    after: int

    async def __call__(self, emit: Emit) -> Terminal:
        """The job's terminal event. The log must have, or come to have, an event behind `after`."""
        with self.log.attach() as reader:
            position = self.after
            while True:
                reader.move(position)
                if not (events := await self.log.read(position, BATCH)):
                    raise ValueError("no event can be behind this position")
                for event in events:
                    if isinstance(event, Finished | Failed):
                        return event
                    await emit(event)
                    position += 1
                    reader.move(position)
