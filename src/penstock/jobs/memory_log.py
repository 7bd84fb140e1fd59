"""A log in the memory of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf

import trio

from penstock.errors import UNREAD, PenstockError
from penstock.events import Delta, Event, Failed, Finished, Terminal
from penstock.jobs.job import Job, JobState
from penstock.jobs.position import Position
from penstock.jobs.store import LeaseLostError
from penstock.jobs.window import has_room, is_held_up, unread_at_s


class MemoryLog:
    """See `Log`. `ended` is called once, with the log whose terminal was written."""

    def __init__(self, job: Job, *, ahead: int, ended: Callable[[MemoryLog], None]) -> None:
        self.job = job
        self.terminal: Terminal | None = None
        self.readers: dict[Position, None] = {}
        self._ahead = ahead
        self._ended = ended
        self._events: list[Event] = []
        self._epoch = 0
        self._acknowledged = 0
        self._refusal: PenstockError | None = None
        self._idle_since_s = trio.current_time()
        """Since when nobody reads it, or since its end if that is later."""
        self._waits_since_s = inf
        """Since when its writer waits for room."""
        self._news = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._wishes = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<MemoryLog {self.job.job_id} {len(self._events)} readers={len(self.readers)}>"

    @property
    def expires_s(self) -> float:
        """When it may be forgotten, in Trio's time."""
        if self.terminal is None or self.readers:
            return inf
        return self._idle_since_s + self.job.order.keep_s

    async def claim(self) -> int:
        await trio.lowlevel.checkpoint()
        self._epoch += 1
        self._room.unpark_all()
        return self._epoch

    async def append(self, epoch: int, event: Event, *, urgent: bool = False) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check(epoch)
        while not urgent and not self._has_room():
            self._wait_from_now()
            await self._room.park()
            self._check(epoch)
        self._waits_since_s = inf
        self._events.append(event)
        if isinstance(event, Finished | Failed):
            self._end(event)
        self._news.unpark_all()

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._events) <= after and self.terminal is None:
            await self._news.park()
        return self._events[after : after + limit]

    @contextmanager
    def attach(self) -> Iterator[Position]:
        reader = Position(self._room.unpark_all)
        self.readers[reader] = None
        self._wishes.unpark_all()
        try:
            yield reader
        finally:
            del self.readers[reader]
            self._idle_since_s = trio.current_time()
            self._room.unpark_all()
            self._wishes.unpark_all()

    async def acknowledge(self, event_id: int) -> None:
        await trio.lowlevel.checkpoint()
        self._acknowledged = max(self._acknowledged, event_id)
        self._room.unpark_all()

    async def state(self) -> JobState:
        await trio.lowlevel.checkpoint()
        return self.known()

    def known(self) -> JobState:
        return JobState(self.job.job_id, len(self._events), self._acknowledged, self.terminal)

    async def text(self) -> str:
        await trio.lowlevel.checkpoint()
        return "".join(event.text for event in self._events if isinstance(event, Delta))

    async def refuse(self, error: PenstockError) -> None:
        await trio.lowlevel.checkpoint()
        self._refusal = self._refusal or error
        self._wishes.unpark_all()

    async def refused(self) -> PenstockError:
        while self._refusal is None:
            with trio.move_on_at(self._unread_at_s()) as patience:
                await self._wishes.park()
            if patience.cancelled_caught and trio.current_time() >= self._unread_at_s():
                return PenstockError(UNREAD, "nobody came back to read this")
        return self._refusal

    async def wait_end(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.terminal is None:
            await self._news.park()

    def _has_room(self) -> bool:
        return has_room(
            len(self._events),
            acknowledged=self._acknowledged,
            window=self.job.order.window,
            readers=[reader.position for reader in self.readers],
            ahead=self._ahead,
        )

    def _check(self, epoch: int) -> None:
        if epoch != self._epoch or self.terminal is not None:
            raise LeaseLostError

    def _end(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._idle_since_s = trio.current_time()
        self._ended(self)

    def _wait_from_now(self) -> None:
        if self._waits_since_s == inf:
            self._waits_since_s = trio.current_time()
            self._wishes.unpark_all()

    def _unread_at_s(self) -> float:
        if self.readers:
            return inf
        order, made = self.job.order, len(self._events)
        held_up = is_held_up(made, acknowledged=self._acknowledged, window=order.window)
        return unread_at_s(order, self._idle_since_s, self._waits_since_s if held_up else inf)
