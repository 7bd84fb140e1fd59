"""Jobs in a Redis that several processes share."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import ceil, inf
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

import trio

from penstock.errors import OVERLOADED, PenstockError
from penstock.jobs.job import Job, JobBounds
from penstock.jobs.redis import scripts
from penstock.jobs.redis.address import Address
from penstock.jobs.redis.codec import decode_order, encode_order
from penstock.jobs.redis.commits import Commits
from penstock.jobs.redis.link import LIFE_MS, AwayError, Link
from penstock.jobs.redis.log import RedisLog
from penstock.jobs.redis.snapshot import Snapshot
from penstock.jobs.redis.watch import RedisWatch
from penstock.jobs.store import Held

BEAT_S = 2.0
LONGEST_RETRY_S = 60

Found: TypeAlias = Sequence[Any]
"""A job's name, order and reserved bytes, and its snapshot."""


class RedisStore:
    """See `Store`. `forgotten` is called for each job whose time is over."""

    def __init__(
        self, address: Address, bounds: JobBounds, forgotten: Callable[[], None] = lambda: None
    ) -> None:
        self.link = Link(address, secrets.token_hex(8))
        self._bounds = bounds
        self._forgotten = forgotten
        self._commits = Commits(self.link, self._take)
        self._watch = RedisWatch(self.link, self._take)
        self._logs: WeakValueDictionary[str, RedisLog] = WeakValueDictionary()
        self._held = Held(0, 0, 0, 0)
        self._due_s = inf
        self._ripening = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<RedisStore {self.link} {self.held()}>"

    async def run(self) -> None:
        tasks = (self.link.run, self._watch.hear, self._watch.tell, self._commits.run)
        async with trio.open_nursery() as nursery:
            for task in (*tasks, self._beat, self._sweep):
                nursery.start_soon(task)

    async def create(self, job: Job) -> RedisLog:
        order = job.order
        outcome, held, *made = await self.link.call(
            scripts.CREATE,
            self.link.now,
            job.job_id,
            encode_order(order),
            job.reserved,
            order.owner,
            order.key or "",
            int(order.listed),
            str(order.keep_s),
            self._bounds.max_jobs,
            self._bounds.log_bytes,
        )
        self._take(held)
        if outcome == b"full":
            raise PenstockError(
                OVERLOADED,
                "as many jobs are kept as fit; delete some, or try again after Retry-After",
                retry_after_s=self._retry_after_s(),
            )
        return self._log(made)

    async def find(self, job_id: str) -> RedisLog | None:
        return self._first(await self.link.call(scripts.FIND, self.link.now, job_id))

    async def find_key(self, owner: str, key: str) -> RedisLog | None:
        return self._first(await self.link.call(scripts.FIND_KEY, self.link.now, owner, key))

    async def listed(self, owner: str, limit: int) -> Sequence[RedisLog]:
        found = await self.link.call(scripts.LISTED, self.link.now, owner, limit)
        return [self._log(each) for each in found]

    async def delete(self, job_id: str) -> None:
        self._take(await self.link.call(scripts.DELETE, self.link.now, job_id))

    def held(self) -> Held:
        """Jobs and bytes of all processes, as last heard; readers of this one."""
        readers = sum(len(log.readers) for log in self._watch.logs.values())
        return replace(self._held, readers=readers)

    async def _beat(self) -> None:
        """Show signs of life, and ask again for what is watched: at once when Redis is back."""
        while True:
            await self.link.there.wait()
            with suppress(AwayError):
                self._take(await self.link.call(scripts.BEAT, self.link.now, LIFE_MS))
                self._watch.resume()
            with trio.move_on_after(BEAT_S):
                await self.link.lost.wait()

    async def _sweep(self) -> None:
        """Forget what nobody has asked for long enough. Every process does."""
        while True:
            with trio.move_on_at(self._due_s):
                await self._ripening.park()
            while self._due_s <= trio.current_time():
                await self.link.there.wait()
                with suppress(AwayError):
                    held, forgotten = await self.link.call(scripts.SWEEP, self.link.now)
                    self._take(held)
                    for _ in range(forgotten):
                        self._forgotten()

    def _first(self, found: Sequence[Found]) -> RedisLog | None:
        return self._log(found[0]) if found else None

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
            ahead=self._bounds.window,
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
        self._due_s = self.link.local_s(due.decode()) if due else inf
        self._ripening.unpark_all()

    def _retry_after_s(self) -> int:
        """When the next job may be forgotten."""
        next_s = min(self._due_s - trio.current_time(), LONGEST_RETRY_S)
        return max(ceil(next_s), 1)
