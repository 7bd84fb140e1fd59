"""Jobs in the memory of one process, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count, islice
from math import ceil, inf

import trio

from penstock.access.ledger import Ledger
from penstock.access.memory_ledger import MemoryLedger
from penstock.errors import OVERLOADED, PenstockError
from penstock.jobs.job import Job, JobBounds
from penstock.jobs.memory_log import MemoryLog
from penstock.jobs.store import Held

LONGEST_RETRY_S = 60


class MemoryStore:
    """See `Store`. `forgotten` is called for each job whose time is over."""

    def __init__(self, bounds: JobBounds, forgotten: Callable[[], None] = lambda: None) -> None:
        self.ledger: Ledger = MemoryLedger()
        self._bounds = bounds
        self._forgotten = forgotten
        self._logs: dict[str, MemoryLog] = {}
        self._keys: dict[tuple[str, str], MemoryLog] = {}
        self._reserved = 0
        self._running = 0
        self._expiries: list[tuple[float, int, MemoryLog]] = []
        self._numbers = count()
        self._ripening = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<MemoryStore {self.held()}>"

    async def run(self) -> None:
        while True:
            with trio.move_on_at(self._expiries[0][0] if self._expiries else inf):
                await self._ripening.park()
            while self._expiries and self._expiries[0][0] <= trio.current_time():
                self._expire(heappop(self._expiries)[2])

    async def create(self, job: Job) -> MemoryLog:
        await trio.lowlevel.checkpoint()
        order = job.order
        if order.key is not None and (known := self._keys.get((order.owner, order.key))):
            return known
        self._check(job)
        log = MemoryLog(job, ahead=self._bounds.window, ended=self._ended)
        self._logs[job.job_id] = log
        if order.key is not None:
            self._keys[order.owner, order.key] = log
        self._reserved += job.reserved
        self._running += 1
        return log

    async def find(self, job_id: str) -> MemoryLog | None:
        await trio.lowlevel.checkpoint()
        return self._logs.get(job_id)

    async def find_key(self, owner: str, key: str) -> MemoryLog | None:
        await trio.lowlevel.checkpoint()
        return self._keys.get((owner, key))

    async def listed(self, owner: str, limit: int) -> Sequence[MemoryLog]:
        await trio.lowlevel.checkpoint()
        newest_first = reversed(self._logs.values())
        theirs = (log for log in newest_first if _is_listed(log.job, owner))
        return tuple(islice(theirs, limit))

    async def delete(self, job_id: str) -> None:
        await trio.lowlevel.checkpoint()
        if (log := self._logs.get(job_id)) is not None and log.terminal is not None:
            self._forget(log)

    def held(self) -> Held:
        readers = sum(len(log.readers) for log in self._logs.values())
        return Held(len(self._logs), self._running, readers, self._reserved)

    def _check(self, job: Job) -> None:
        full = len(self._logs) >= self._bounds.max_jobs
        if full or self._reserved + job.reserved > self._bounds.log_bytes:
            raise PenstockError(
                OVERLOADED,
                "as many jobs are kept as fit; delete some, or try again after Retry-After",
                retry_after_s=self._retry_after_s(),
            )

    def _retry_after_s(self) -> int:
        """When the next job may be forgotten."""
        next_s = self._expiries[0][0] - trio.current_time() if self._expiries else inf
        return int(min(max(ceil(min(next_s, LONGEST_RETRY_S)), 1), LONGEST_RETRY_S))

    def _ended(self, log: MemoryLog) -> None:
        self._running -= 1
        self._plan(log, log.job.order.keep_s)

    def _plan(self, log: MemoryLog, wait_s: float) -> None:
        """Look again at `log` then. Numbers keep logs of one moment from being compared."""
        heappush(self._expiries, (trio.current_time() + wait_s, next(self._numbers), log))
        self._ripening.unpark_all()

    def _expire(self, log: MemoryLog) -> None:
        if self._logs.get(log.job.job_id) is not log:
            return
        left_s = log.expires_s - trio.current_time()
        if left_s > 0:
            self._plan(log, min(left_s, log.job.order.keep_s))
        else:
            self._forget(log)
            self._forgotten()

    def _forget(self, log: MemoryLog) -> None:
        order = log.job.order
        del self._logs[log.job.job_id]
        if order.key is not None:
            del self._keys[order.owner, order.key]
        self._reserved -= log.job.reserved


def _is_listed(job: Job, owner: str) -> bool:
    return job.order.listed and job.order.owner == owner
