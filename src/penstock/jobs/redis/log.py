"""One job's log, as one process sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf

import trio
from glide import Script

from penstock.errors import UNREAD, PenstockError
from penstock.events import Event, Failed, Finished
from penstock.jobs.job import Job, JobState
from penstock.jobs.position import Position
from penstock.jobs.redis import scripts
from penstock.jobs.redis.absence import AwayError, LostError, forgotten
from penstock.jobs.redis.codec import encode_error, encode_event
from penstock.jobs.redis.commits import Commit, Commits
from penstock.jobs.redis.link import Link
from penstock.jobs.redis.readers import Readers
from penstock.jobs.redis.records import is_to_come, pull, pull_text
from penstock.jobs.redis.snapshot import Snapshot
from penstock.jobs.store import LeaseLostError
from penstock.jobs.window import has_room, is_held_up, unread_at_s


class RedisLog:
    """See `Log`. What it knows of the log is never ahead of it.

    `changed` is called when this process begins or ends to watch it, and when a reader has moved.
    """

    def __init__(
        self,
        job: Job,
        seen: Snapshot,
        *,
        ahead: int,
        link: Link,
        commits: Commits,
        changed: Callable[[RedisLog], None],
    ) -> None:
        self.job = job
        self.seen = seen
        self.readers = Readers(ahead, self.moved)
        self._ahead = ahead
        self._link = link
        self._commits = commits
        self._changed = changed
        self._watching = 0
        self._writes: int | None = None
        """The epoch in which this process does."""
        self._handed = 0
        """Events on their way included: several answers of one job write at the same time."""
        self._waits_since_s = inf
        """Since when this process waits for room to write."""
        self._gone = False
        self._news = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<RedisLog {self.job.job_id} {self.seen.last_id} readers={len(self.readers)}>"

    @property
    def writing(self) -> bool:
        """Whether this process holds the lease, as far as it knows."""
        return self._writes is not None

    @property
    def watched(self) -> bool:
        """Whether somebody here waits for anything to happen to it."""
        return bool(self._watching or self.writing or self.readers)

    def learn(self, seen: Snapshot) -> None:
        """Take over what Redis said, and wake whoever waits for news."""
        self.seen = seen.after(self.seen)
        self._news.unpark_all()

    def lose(self) -> None:
        """Redis does not know it any more."""
        self._gone = True
        self._news.unpark_all()

    def moved(self) -> None:
        """A reader here has."""
        self._news.unpark_all()
        if self.readers.news:
            self._changed(self)

    async def claim(self) -> int:
        told = await self._link.insist(scripts.CLAIM, self.job.job_id, str(self._link.lease_s))
        if not told:
            raise LeaseLostError
        return self.begin(Snapshot.of(told))

    def begin(self, claimed: Snapshot) -> int:
        """This process writes it from now on."""
        # As it is: a Redis that came back may have lost what this process knew of.
        self.seen = claimed
        self._handed, self._waits_since_s = claimed.last_id, inf
        self._writes = claimed.epoch if claimed.terminal is None else None
        self._news.unpark_all()
        self._changed(self)
        return self.seen.epoch

    async def append(self, epoch: int, event: Event, *, urgent: bool = False) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check(epoch)
        while not urgent and not self._has_room():
            self._wait_from_now()
            await self._news.park()
            self._check(epoch)
        self._waits_since_s = inf
        # Before it has a number: what cannot be encoded leaves no gap.
        data, ends = encode_event(event), isinstance(event, Finished | Failed)
        self._handed += 1
        number = self._handed
        written = await self._commits.write(Commit(self.job.job_id, epoch, number, data, ends))
        if not written or ends:
            self.release(epoch)
        if not written:
            raise LeaseLostError
        self.learn(self.seen.with_last(number, event if ends else None))

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        with self._waiting():
            while True:
                while self.seen.last_id <= after and not self._over:
                    await self._news.park()
                if self.seen.last_id <= after and self.seen.terminal is not None:
                    return ()
                try:
                    if events := await pull(self._link, self.job.job_id, after, limit):
                        return events
                    if await is_to_come(self._link, self.job.job_id, after):
                        await self._news.park()
                except AwayError:
                    await self._link.there.wait()
                except LostError as error:
                    with suppress(PenstockError):
                        await self.refuse(error)
                    raise

    @contextmanager
    def attach(self) -> Iterator[Position]:
        try:
            with self.readers.another() as reader:
                self._changed(self)
                yield reader
        finally:
            if not self.readers:
                self.seen = self.seen.idle_since(f"{self._link.clock.now_s:.6f}")
            self._news.unpark_all()
            self._changed(self)

    async def acknowledge(self, event_id: int) -> None:
        await self._ask(scripts.ACKNOWLEDGE, self.job.job_id, event_id)

    async def state(self) -> JobState:
        await self._ask(scripts.LOOK, self.job.job_id)
        return self.known()

    def known(self) -> JobState:
        return self.seen.state(self.job.job_id)

    async def text(self) -> str:
        return await pull_text(self._link, self.job.job_id)

    async def refuse(self, error: PenstockError) -> None:
        await self._ask(scripts.REFUSE, self.job.job_id, encode_error(error))

    async def refused(self) -> PenstockError:
        with self._waiting():
            while self.seen.refusal is None:
                with trio.move_on_at(self._unread_at_s()) as patience:
                    await self._news.park()
                if patience.cancelled_caught and await self._unread():
                    return PenstockError(UNREAD, "nobody came back to read this")
            return self.seen.refusal

    async def wait_end(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        with self._waiting():
            while not self._over:
                await self._news.park()

    @property
    def _over(self) -> bool:
        return self._gone or self.seen.terminal is not None

    async def _ask(self, script: Script, *given: str | bytes | int) -> None:
        if told := await self._link.call(script, *given):
            self.learn(Snapshot.of(told))
        elif self.seen.terminal is None:
            raise forgotten()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Hear of news within the block."""
        self._watching += 1
        self._changed(self)
        try:
            yield
        finally:
            self._watching -= 1
            self._changed(self)

    def release(self, epoch: int) -> None:
        """Whoever wrote in `epoch` does so no more; another one here may."""
        if epoch == self._writes:
            self._writes = None
            self._changed(self)

    def _has_room(self) -> bool:
        readers = (self.readers.furthest, self.seen.others)
        return has_room(
            self._handed,
            acknowledged=self.seen.acknowledged,
            window=self.job.order.window,
            readers=[each for each in readers if each is not None],
            ahead=self._ahead,
        )

    def _check(self, epoch: int) -> None:
        if epoch != self.seen.epoch or self._over:
            self.release(epoch)
            raise LeaseLostError

    async def _unread(self) -> bool:
        """Whether it is still so once Redis was asked."""
        try:
            await self._ask(scripts.LOOK, self.job.job_id)
        except AwayError:
            await self._link.there.wait()
            return False
        return self.seen.refusal is None and trio.current_time() >= self._unread_at_s()

    def _wait_from_now(self) -> None:
        if self._waits_since_s == inf:
            self._waits_since_s = trio.current_time()
            self._news.unpark_all()

    def _unread_at_s(self) -> float:
        if self.readers or self.seen.others is not None:
            return inf
        order, acknowledged = self.job.order, self.seen.acknowledged
        held_up = is_held_up(self._handed, acknowledged=acknowledged, window=order.window)
        idle_s = self._link.clock.local_s(float(self.seen.idle))
        return unread_at_s(order, idle_s, self._waits_since_s if held_up else inf)
