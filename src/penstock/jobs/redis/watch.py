"""What this process tells the others of its readers, and what it hears of the jobs it watches.

Each process has one stream, into which whoever changes a job that it watches puts that job's name.
One task waits there; it is never cancelled for a job's sake, and it fetches no events: each reader
does that, for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from math import inf
from typing import Any

import trio
from glide import GlideError, StreamReadOptions

from penstock.jobs.redis import scripts
from penstock.jobs.redis.absence import AwayError
from penstock.jobs.redis.client import Client
from penstock.jobs.redis.link import PREFIX, PROBE_S, Link
from penstock.jobs.redis.log import RedisLog
from penstock.jobs.redis.snapshot import Snapshot

BLOCK_MS = 1000
BEGINNING = "0-0"
SILENT_S = 60.0
"""A stream into which nothing was put for as long is gone, as `wake` in `common.lua` has it."""
SYNC = 256
"""Jobs in one script."""


class RedisWatch:
    """What is watched here. `resume` asks for everything again, so that nothing missed is lost."""

    def __init__(self, link: Link, held: Callable[[Sequence[bytes]], None]) -> None:
        self.logs: dict[str, RedisLog] = {}
        """Those watched here."""
        self._link = link
        self._held = held
        self._changed: dict[RedisLog, None] = {}
        self._heard_s = -inf
        self._more = trio.lowlevel.ParkingLot()
        self.work = trio.Event()
        """Set when there may be jobs in line; whoever looks for them puts another in its place."""

    def changed(self, log: RedisLog) -> None:
        if log.watched:
            self.logs[log.job.job_id] = log
        self._changed[log] = None
        self._more.unpark_all()

    def resume(self) -> None:
        """Ask for everything again."""
        for each in self.logs.values():
            self.changed(each)

    async def tell(self) -> None:
        """Send what has changed, until cancelled."""
        while True:
            while not self._changed:
                await self._more.park()
            # The oldest first: one whose reader moves on meanwhile goes behind the others.
            batch = list(islice(self._changed, SYNC))
            for each in batch:
                del self._changed[each]
            try:
                await self._sync(batch)
            except AwayError:
                self._changed.update(dict.fromkeys(batch))
                await self._link.there.wait()

    async def hear(self) -> None:
        """Take what others have to say, until cancelled."""
        async with self._link.connection() as client:
            after = BEGINNING
            while True:
                try:
                    after = await self._listen(client, after)
                except GlideError:
                    # This connection hears of it before the other one does, or knows it to be back.
                    await trio.sleep(PROBE_S)
                    self.resume()
                    # What came back may have another clock, which numbers what is put in there.
                    after = BEGINNING

    async def _listen(self, client: Client, after: str) -> str:
        key = f"{PREFIX}wake:{self._link.me}"
        options = StreamReadOptions(block_ms=BLOCK_MS)
        got: Any = await client.xread({key: after}, options)
        if got:
            self._heard_s = trio.current_time()
        elif trio.current_time() - self._heard_s > SILENT_S:
            # Whatever is put in there next may have a lower number: clocks are set back.
            return BEGINNING
        for entries in (got or {}).values():
            for entry, pairs in entries.items():
                after = entry.decode()
                for job_id, news in pairs:
                    self._hear(job_id.decode(), *news.decode().split(":"))
        return after

    def _hear(self, job_id: str, what: str, number: str) -> None:
        watched = self.logs.get(job_id)
        if what == "work":
            self.work.set()
        elif watched is None:
            return
        elif what == "last":
            watched.learn(watched.seen.with_last(int(number)))
        else:
            self.changed(watched)

    async def _sync(self, batch: Sequence[RedisLog]) -> None:
        arguments: list[str | int] = []
        for each in batch:
            readers = each.readers
            readers.told = readers.furthest if each.watched else None
            position = "" if readers.told is None else str(readers.told)
            arguments += [each.job.job_id, int(each.watched), position]
        held, told = await self._link.call(scripts.SYNC, *arguments)
        self._held(held)
        for each, seen in zip(batch, told, strict=True):
            if seen:
                each.learn(Snapshot.of(seen))
            else:
                each.lose()
            if not each.watched and each not in self._changed:
                self.logs.pop(each.job.job_id, None)
