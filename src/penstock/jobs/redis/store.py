"""Jobs in a Redis that several processes share."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import ceil
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

import trio

from penstock.access.ledger import Ledger
from penstock.errors import OVERLOADED, PenstockError, internal, overloaded
from penstock.jobs.job import Job, JobBounds
from penstock.jobs.redis import scripts
from penstock.jobs.redis.absence import AwayError
from penstock.jobs.redis.address import Address
from penstock.jobs.redis.client import Connect, connect
from penstock.jobs.redis.clock import Clock
from penstock.jobs.redis.codec import DecodeError, decode_order, encode_error, encode_order, foreign
from penstock.jobs.redis.commits import Commits
from penstock.jobs.redis.ledger import RedisLedger
from penstock.jobs.redis.link import Link
from penstock.jobs.redis.log import RedisLog
from penstock.jobs.redis.snapshot import Snapshot
from penstock.jobs.redis.sweep import Sweep
from penstock.jobs.redis.watch import RedisWatch
from penstock.jobs.store import Held, Log, Taken

log = logging.getLogger(__name__)

BEATS = 5
"""Signs of life within the time after which a process without one is taken for dead."""
LINE_RETRY_S = 5
LONGEST_RETRY_S = 60

Found: TypeAlias = Sequence[Any]
"""A job's name, order and reserved bytes, and its snapshot."""


class RedisStore:
    """See `Store`. `forgotten` is called for each job whose time is over."""

    def __init__(
        self,
        address: Address,
        bounds: JobBounds,
        forgotten: Callable[[], None] = lambda: None,
        *,
        lease_s: float = 10.0,
        line: int = 64,
        clock: Clock | None = None,
        connect: Connect = connect,
    ) -> None:
        name = secrets.token_hex(8)
        self.link = Link(address, name, lease_s=lease_s, clock=clock, connect=connect)
        self.ledger: Ledger = RedisLedger(self.link)
        self._line = line
        self._bounds = bounds
        self._commits = Commits(self.link, self._take)
        self._watch = RedisWatch(self.link, self._take)
        self._sweep = Sweep(self.link, self._take, forgotten)
        self._logs: WeakValueDictionary[str, RedisLog] = WeakValueDictionary()
        self._held = Held(0, 0, 0, 0)

    def __repr__(self) -> str:
        return f"<RedisStore {self.link} {self.held()}>"

    async def run(self) -> None:
        tasks = (self.link.run, self._watch.hear, self._watch.tell, self._commits.run)
        async with trio.open_nursery() as nursery:
            for task in (*tasks, self._sweep.run, self._beat):
                nursery.start_soon(task)

    async def create(self, job: Job) -> RedisLog:
        return await self._create(job, "")

    async def offer(self, job: Job) -> RedisLog:
        return await self._create(job, str(self._line))

    async def take(self, model: str, free: int, slots: int) -> Sequence[Taken]:
        link = self.link
        told = (link.lapsed, str(link.lease_s), model, free, slots)
        found = await link.call(scripts.TAKE, *told)
        taken = [self._taken(each, tries) for *each, tries in found]
        for each, got in zip(found, taken, strict=True):
            if got is None:
                await self._end(each)
        return [each for each in taken if each is not None]

    async def wait_work(self) -> None:
        """Or, at the latest, until a sign of life is due: a call may have been missed."""
        with trio.move_on_after(self._beat_s):
            await self._watch.work.wait()
        self._watch.work = trio.Event()
        await self.link.there.wait()

    def unready(self) -> str | None:
        return None if self.link.there.is_set() else "the store of jobs is away"

    @property
    def full(self) -> bool:
        return self.link.full

    async def give_back(self, log: Log, epoch: int) -> None:
        if known := self._logs.get(log.job.job_id):
            known.release(epoch)
        await self.link.insist(scripts.GIVE_BACK, log.job.job_id, epoch)

    async def _create(self, job: Job, line: str) -> RedisLog:
        order = job.order
        outcome, held, *made = await self.link.call(
            scripts.CREATE,
            job.job_id,
            encode_order(order),
            job.reserved,
            order.owner,
            order.key or "",
            int(order.listed),
            str(order.keep_s),
            self._bounds.max_jobs,
            self._bounds.log_bytes,
            order.model,
            line,
            str(self.link.lease_s),
            order.request.n,
        )
        self._take(held)
        if outcome == b"busy":
            raise overloaded(LINE_RETRY_S, "as many requests wait as may")
        if outcome == b"full":
            raise PenstockError(
                OVERLOADED,
                "as many jobs are kept as fit; delete some, or try again after Retry-After",
                retry_after_s=self._retry_after_s(),
            )
        return self._known(made)

    async def find(self, job_id: str) -> RedisLog | None:
        return self._first(await self.link.call(scripts.FIND, job_id))

    async def find_key(self, owner: str, key: str) -> RedisLog | None:
        return self._first(await self.link.call(scripts.FIND_KEY, owner, key))

    async def listed(self, owner: str, limit: int) -> Sequence[RedisLog]:
        found = await self.link.call(scripts.LISTED, owner, limit)
        logs = [self._readable(each) for each in found]
        return [log for log in logs if log is not None]

    async def delete(self, job_id: str) -> None:
        self._take(await self.link.call(scripts.DELETE, job_id))

    def held(self) -> Held:
        """Jobs and bytes of all processes, as last heard; readers of this one."""
        readers = sum(len(log.readers) for log in self._watch.logs.values())
        return replace(self._held, readers=readers)

    @property
    def _beat_s(self) -> float:
        return self.link.lease_s / BEATS

    async def _beat(self) -> None:
        """Show signs of life, and ask again for what is watched: at once when Redis is back."""
        while True:
            await self.link.there.wait()
            with suppress(AwayError):
                mine = [name for name, log in self._watch.logs.items() if log.writing]
                self._take(await self.link.beat(*mine))
                await self.link.look_for_room()
                self._watch.resume()
                with trio.move_on_after(self._beat_s):
                    await self.link.lost.wait()

    def _first(self, found: Sequence[Found]) -> RedisLog | None:
        return self._known(found[0]) if found else None

    async def _end(self, found: Found) -> None:
        """End one that was taken and cannot be read: the next one could not, either."""
        name, _, _, told, *_ = found
        link = self.link
        await link.insist(scripts.REFUSE, name, encode_error(internal()))
        await link.insist(scripts.GIVE_BACK, name, Snapshot.of(told).epoch)

    def _taken(self, found: Found, tries: int) -> Taken | None:
        """None where it cannot be read."""
        if (taken := self._readable(found)) is None:
            return None
        return Taken(taken, taken.begin(Snapshot.of(found[3])), tries)

    def _known(self, found: Found) -> RedisLog:
        """Raises `PenstockError` where it cannot be read."""
        if (known := self._readable(found)) is None:
            raise foreign()
        return known

    def _readable(self, found: Found) -> RedisLog | None:
        """None, and a line in the log, where it cannot be read."""
        try:
            return self._log(found)
        except DecodeError:
            log.error("a job of another release", extra={"job": found[0].decode()})
            return None

    def _log(self, found: Found) -> RedisLog:
        """The one object there is here for a job."""
        name, order, reserved, told = found
        job_id, seen = name.decode(), Snapshot.of(told)
        log = self._logs.get(job_id)
        if log is not None:
            log.learn(seen)
            return log
        job = Job(job_id, decode_order(order), int(reserved))
        log = RedisLog(
            job,
            seen,
            ahead=job.order.ahead or self._bounds.window,
            link=self.link,
            commits=self._commits,
            changed=self._watch.changed,
        )
        self._logs[job_id] = log
        return log

    def _take(self, held: Sequence[bytes]) -> None:
        """What `held` in `common.lua` gives."""
        jobs, running, held_bytes, due = held
        self._held = Held(int(jobs), int(running), 0, int(held_bytes))
        self._sweep.plan(due)

    def _retry_after_s(self) -> int:
        """When the next job may be forgotten."""
        next_s = min(self._sweep.due_s - trio.current_time(), LONGEST_RETRY_S)
        return max(ceil(next_s), 1)
