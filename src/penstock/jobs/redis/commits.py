"""Events on their way into their logs: those of one step of the model go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from penstock.jobs.redis import scripts
from penstock.jobs.redis.link import Link

BATCH = 256
"""Events in one script: Redis serves nobody else meanwhile, for a millisecond or two."""


@dataclass(slots=True, eq=False)
class Commit:
    """One event with its number. `written` is None while that is not known."""

    job_id: str
    epoch: int
    number: int
    data: bytes
    ends: bool
    written: bool | None = None
    known: trio.Event = field(default_factory=trio.Event)

    def settle(self, written: bool | None) -> None:
        self.written = written
        self.known.set()


class Commits:
    """Writes what is handed to it, in order. While one batch is under way the next one gathers."""

    def __init__(self, link: Link, held: Callable[[Sequence[bytes]], None]) -> None:
        self._link = link
        self._held = held
        self._waiting: list[Commit] = []
        self._more = trio.lowlevel.ParkingLot()
        self._closed = False

    async def write(self, commit: Commit) -> bool:
        """Whether it is in the log; it is not where another one writes there now.

        Waits for Redis to return where it is away. Cancelling is put off until this is known, so
        that it means that nothing was written.
        """
        if not self._closed:
            self._waiting.append(commit)
            self._more.unpark_all()
            with trio.CancelScope(shield=True):
                await commit.known.wait()
        if commit.written is None:
            # The store has stopped, and with it whoever waits for it.
            await trio.sleep_forever()
        return bool(commit.written)

    async def run(self) -> None:
        """Write until cancelled."""
        under_way: list[Commit] = []
        try:
            while True:
                while not self._waiting:
                    await self._more.park()
                under_way, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._write(under_way)
        finally:
            self._closed = True
            for commit in [*under_way, *self._waiting]:
                commit.settle(commit.written)

    async def _write(self, batch: Sequence[Commit]) -> None:
        arguments: list[str | bytes | int] = []
        for each in batch:
            arguments += [each.job_id, each.epoch, each.number, int(each.ends), each.data]
        held, answers = await self._link.insist(scripts.APPEND, *arguments)
        self._held(held)
        for commit, answer in zip(batch, answers, strict=True):
            commit.settle(answer == 1)
