"""Jobs: submitted once, run whether or not anybody reads, read by many, kept for a while."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import trio

from penstock import origin
from penstock.errors import (
    CANCELLED,
    JOB_NOT_FOUND,
    KEY_REUSED,
    UNAVAILABLE,
    PenstockError,
    invalid,
)
from penstock.events import Delta, Finished
from penstock.generation import Generation
from penstock.jobs.job import Job, JobBounds, JobState, Order
from penstock.jobs.memory import MemoryStore
from penstock.jobs.runner import Host, Run, end_on_fault
from penstock.jobs.store import LeaseLostError, Log, MakeStore, SharedStore
from penstock.live import Live
from penstock.metrics import Metrics
from penstock.requests import SEED_LIMIT, GenerateRequest

log = logging.getLogger(__name__)

RECORD_BYTES = 512
"""Reserved for each token of a log; 290 were measured for one of a few characters."""
KEEP_S = 5.0
"""How long keeping what has been generated may hold up whoever wants to leave."""


def new_job_id() -> str:
    """Whoever knows it may read the job, so nobody can guess it."""
    return f"job_{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job's log. `replayed` where an earlier submit with the same key has made it."""

    log: Log
    replayed: bool = False


class Jobs:
    """All jobs of one service."""

    def __init__(
        self, host: Host, bounds: JobBounds, metrics: Metrics, make_store: MakeStore = MemoryStore
    ) -> None:
        self.bounds = bounds
        self.store = make_store(bounds, metrics.expired.inc)
        self.shared = self.store if isinstance(self.store, SharedStore) else None
        self._host = host
        self._metrics = metrics
        self.make_id = new_job_id
        self._nursery: trio.Nursery | None = None
        self._opened = trio.Event()
        self._locks: dict[tuple[str, str], trio.Lock] = {}
        metrics.watch("jobs_kept", "Jobs known.", lambda: self.store.held().jobs)
        metrics.watch("jobs_running", "Jobs without an end.", lambda: self.store.held().running)
        metrics.watch("job_readers", "Readers of jobs.", lambda: self.store.held().readers)
        metrics.watch("store_full", "Whether the store has no memory for new jobs.", self._is_full)
        metrics.watch("job_log_bytes", "Reserved for logs.", lambda: self.store.held().log_bytes)

    async def run(self) -> None:
        """Run what is submitted, until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._opened.set()
                await self.store.run()
        finally:
            self._nursery = None

    async def submit(self, order: Order) -> Submitted:
        """Make a job, or find the one that this order's key stands for.

        Submits with one key go one after another. Raises `PenstockError` for what is refused.
        """
        if order.key is None:
            return await self._start(order)
        async with self._turn(order.owner, order.key):
            known = await self.store.find_key(order.owner, order.key)
            made = Submitted(known, replayed=True) if known else await self._start(order)
        if made.log.job.order.digest != order.digest:
            raise PenstockError(
                KEY_REUSED,
                "this Idempotency-Key was used with another body; take a new one",
                param="Idempotency-Key",
            )
        self._metrics.replayed.inc(made.replayed)
        return made

    def attended(self, request: GenerateRequest, model: str, *, window: int | None = None) -> Order:
        """For a generation whose reader may be lost for a while, and not for longer."""
        window_s = self.bounds.resume_window_s
        return Order(
            request=request,
            model=model,
            keep_s=window_s,
            window=window,
            unread_s=window_s,
            listed=False,
            owner=request.caller.scope,
        )

    def can_keep(self, order: Order) -> bool:
        """Whether there is room for what is generated otherwise: half of it is for jobs."""
        held, bounds = self.store.held(), self.bounds
        log_bytes = held.log_bytes + _log_bytes(order.request, order.request.max_tokens or 0)
        return 2 * held.jobs < bounds.max_jobs and 2 * log_bytes < bounds.log_bytes

    async def keep(self, job_id: str, order: Order, text: str, end: Finished) -> None:
        """Keep what was generated otherwise, as a job that has ended. Raises `PenstockError`."""
        reserved = 2 * RECORD_BYTES + 4 * (len(text) + order.request.characters)
        log = await self.store.create(Job(job_id, order, reserved))
        # A client that leaves here would leave a job behind that nobody ends, and its room is lost.
        with trio.move_on_after(KEEP_S, shield=True):
            epoch = await log.claim()
            if text:
                await log.append(epoch, Delta(text, (), end.through), urgent=True)
            await log.append(epoch, end, urgent=True)

    async def find(self, owner: str, job_id: str) -> Log:
        """The log of a job of `owner`. Raises `PenstockError`."""
        found = await self.store.find(job_id)
        if found is None or found.job.order.owner != owner:
            raise PenstockError(JOB_NOT_FOUND, "no such job here; it may have been forgotten")
        return found

    async def listed(self, owner: str, limit: int) -> Sequence[Log]:
        """The newest jobs of `owner`."""
        return await self.store.listed(owner, limit)

    async def cancel(self, job: Log) -> JobState:
        """End a job; nothing where it has ended."""
        await job.refuse(PenstockError(CANCELLED, "cancelled by the client"))
        await job.wait_end()
        return await job.state()

    async def acknowledge(self, job: Log, event_id: int) -> JobState:
        """Events up to `event_id` have arrived. Raises `PenstockError`."""
        if event_id > (await job.state()).last_id:
            raise invalid("id", "id is beyond the last event; acknowledge what has arrived")
        await job.acknowledge(event_id)
        return await job.state()

    async def delete(self, job: Log) -> None:
        """End a job and forget it."""
        await self.cancel(job)
        await self.store.delete(job.job.job_id)

    def _is_full(self) -> bool:
        return self.shared is not None and self.shared.full

    async def _start(self, order: Order) -> Submitted:
        await self._opened.wait()
        if self._nursery is None:
            raise PenstockError(UNAVAILABLE, "the server is shutting down", retry_after_s=5)
        if self.shared is not None and not self._host.decodes:
            return await self._offer(self.shared, self._complete(order))
        started: Submitted = await self._nursery.start(self._run, self._complete(order))
        return started

    async def _offer(self, store: SharedStore, order: Order) -> Submitted:
        """A job for whoever has room for it."""
        reserved = _log_bytes(order.request, self._host.most_tokens(order.request))
        job = Job(self.make_id(), order, reserved)
        made = await store.offer(job)
        mine = made.job.job_id == job.job_id
        self._metrics.jobs.inc(mine)
        return Submitted(made, replayed=not mine)

    async def _run(self, order: Order, *, task_status: trio.TaskStatus[Submitted]) -> None:
        """One job's task. What is refused before it has begun is raised to the submitter."""
        live, begun, job_id = Live(), False, self.make_id()
        try:
            async with self._host.admit(order.request, live, job=job_id) as source:
                reserved = _log_bytes(order.request, source.prompt.max_tokens)
                job = Job(job_id, order, reserved)
                made = await self.store.create(job)
                begun, mine = True, made.job.job_id == job.job_id
                origin.name_generation(job.job_id)
                task_status.started(Submitted(made, replayed=not mine))
                if mine:
                    live.name = job.job_id
                    self._metrics.jobs.inc()
                    await self._write(made, live, source)
        except LeaseLostError:
            log.warning("another process goes on with a job")
        except Exception:
            if not begun:
                raise
            log.exception("a job failed")

    async def _write(self, made: Log, live: Live, source: Generation) -> None:
        """Whatever happens, the job gets an end."""
        back = None if self.shared is None else self.shared.give_back
        epoch = await made.claim()
        try:
            with self._host.accounted(live, source):
                await Run(made, epoch, live, source, back).write(wall_s=self.bounds.wall_s)
        except LeaseLostError:
            raise
        except Exception:
            log.exception("a job failed")
            await end_on_fault(made, epoch)

    def _complete(self, order: Order) -> Order:
        """Whoever goes on with it draws as the first would have, as far ahead of its readers.

        And tells where it came from.
        """
        sampling = order.request.sampling
        if sampling.seed is None:
            sampling = replace(sampling, seed=secrets.randbelow(SEED_LIMIT))
        request, ahead = replace(order.request, sampling=sampling), self.bounds.window
        return replace(order, request=request, ahead=ahead, origin=origin.current())

    @asynccontextmanager
    async def _turn(self, owner: str, key: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault((owner, key), trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._locks.get((owner, key)) is lock:
                del self._locks[owner, key]


def _log_bytes(request: GenerateRequest, max_tokens: int) -> int:
    """One record a token and one for the end, and the prompt at four bytes a character."""
    return (max_tokens + 1) * RECORD_BYTES + 4 * request.characters
