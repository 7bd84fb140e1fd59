"""One job's log, as one process sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf

import trio
from glide import Script

from penstock.errors import JOB_NOT_FOUND, UNREAD, PenstockError
from penstock.events import Event, Failed, Finished
from penstock.jobs.job import Job, JobState
from penstock.jobs.position import Position
from penstock.jobs.redis import scripts
from penstock.jobs.redis.codec import encode_error
from penstock.jobs.redis.commits import Commit, Commits
from penstock.jobs.redis.link import AwayError, Link
from penstock.jobs.redis.records import pull, pull_text
from penstock.jobs.redis.snapshot import Snapshot
from penstock.jobs.store import LeaseLostError
from penstock.jobs.window import has_room


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
        self.readers: dict[Position, None] = {}
        self.told: int | None = None
        """Where the others were last told that the furthest reader here is."""
        self._ahead = ahead
        self._link = link
        self._commits = commits
        self._changed = changed
        self._watching = 0
        self.writing: int | None = None
        """The epoch in which this process writes it, as far as it knows."""
        self._handed = 0
        """Events on their way included: several answers of one job write at the same time."""
        self._gone = False
        self._news = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<RedisLog {self.job.job_id} {self.seen.last_id} readers={len(self.readers)}>"

    @property
    def watched(self) -> bool:
        """Whether somebody here waits for anything to happen to it."""
        return bool(self._watching or self.writing or self.readers)

    @property
    def furthest(self) -> int | None:
        """Of the readers in this process."""
        return max((reader.position for reader in self.readers), default=None)

    def learn(self, seen: Snapshot) -> None:
        """Take over what Redis said, and wake whoever waits for news."""
        self.seen = seen.after(self.seen)
        self._news.unpark_all()

    def advance(self, last_id: int) -> None:
        """There are events up to this one."""
        self.learn(self.seen.with_last(last_id))

    def lose(self) -> None:
        """Redis does not know it any more."""
        self._gone = True
        self._news.unpark_all()

    def moved(self) -> None:
        """Others hear of it now and then, so that a writer elsewhere seldom has to wait for it."""
        self._news.unpark_all()
        step = max(self._ahead // 8, 1)
        if self.told is None or (self.furthest or 0) >= self.told + step:
            self._changed(self)

    async def claim(self) -> int:
        lease_s = str(self._link.lease_s)
        told = await self._link.insist(scripts.CLAIM, self._link.now, self.job.job_id, lease_s)
        if not told:
            raise LeaseLostError
        return self.begin(Snapshot.of(told))

    def begin(self, claimed: Snapshot) -> int:
        """This process writes it from now on."""
        # As it is: a Redis that came back may have lost what this process knew of.
        self.seen = claimed
        self._handed = claimed.last_id
        self.writing = self.seen.epoch if self.seen.terminal is None else None
        self._news.unpark_all()
        self._changed(self)
        return self.seen.epoch

    async def append(self, epoch: int, event: Event, *, urgent: bool = False) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check(epoch)
        while not urgent and not self._has_room():
            await self._news.park()
            self._check(epoch)
        self._handed += 1
        number = self._handed
        written = await self._commits.write(Commit(self.job.job_id, epoch, number, event))
        ends = isinstance(event, Finished | Failed)
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
                except AwayError:
                    await self._link.there.wait()
                else:
                    await self._missing()

    @contextmanager
    def attach(self) -> Iterator[Position]:
        reader = Position(self.moved)
        self.readers[reader] = None
        self._changed(self)
        try:
            yield reader
        finally:
            del self.readers[reader]
            if not self.readers:
                self.seen = self.seen.idle_since(self._link.now)
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

    async def _missing(self) -> None:
        """A Redis that lost its last events, or all of them: they may be written again."""
        if self._gone:
            raise _forgotten()
        await self._news.park()

    @property
    def _over(self) -> bool:
        return self._gone or self.seen.terminal is not None

    async def _ask(self, script: Script, *given: str | bytes | int) -> None:
        if told := await self._link.call(script, self._link.now, *given):
            self.learn(Snapshot.of(told))
        elif self.seen.terminal is None:
            raise _forgotten()

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
        """Not the writer any more, unless another one here is."""
        if epoch == self.writing:
            self.writing = None
            self._changed(self)

    def _has_room(self) -> bool:
        readers = (self.furthest, self.seen.others)
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

    def _unread_at_s(self) -> float:
        if self.readers or self.seen.others is not None:
            return inf
        return self._link.local_s(self.seen.idle) + self.job.order.unread_s


def _forgotten() -> PenstockError:
    return PenstockError(JOB_NOT_FOUND, "this job has been forgotten")
