"""Runs jobs that other processes have made, or have begun and left."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Protocol

import trio

from penstock import origin
from penstock.admission import Room
from penstock.errors import OVERLOADED, UNAVAILABLE, PenstockError, internal
from penstock.events import Delta, Event, Failed
from penstock.generation import Generation
from penstock.jobs.job import Order
from penstock.jobs.runner import Accounted, Run, end_on_fault
from penstock.jobs.store import LeaseLostError, Log, SharedStore, Taken
from penstock.live import Live
from penstock.progress import Progress, read_progress
from penstock.requests import GenerateRequest

log = logging.getLogger(__name__)

BATCH = 512
MOST_TRIES = 20
"""A job that was begun so often without an end takes its workers down with it."""


class WorkerHost(Accounted, Protocol):
    """What goes on with generations, where there are slots for them."""

    def room(self) -> Mapping[str, Room]:
        """Of each model."""

    def admit(
        self, request: GenerateRequest, live: Live, before: list[Progress], job: str
    ) -> AbstractAsyncContextManager[Generation]: ...


class Worker:
    """Takes jobs from `store` as there is room for them."""

    def __init__(self, host: WorkerHost, store: SharedStore, *, wall_s: float) -> None:
        self._host = host
        self._store = store
        self._wall_s = wall_s
        self._more = trio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                more = self._more = trio.Event()
                with suppress(PenstockError):
                    await self._take(nursery)
                await more.wait()

    async def _listen(self) -> None:
        while True:
            await self._store.wait_work()
            self._more.set()

    async def _take(self, nursery: trio.Nursery) -> None:
        """Each is inside before there is another look at what is free.

        Also without room: whoever was called in vain hands that on by asking for nothing.
        """
        for model, room in self._host.room().items():
            for taken in await self._store.take(model, room.free, room.slots):
                inside = trio.Event()
                nursery.start_soon(self._work, taken, inside)
                await inside.wait()

    async def _work(self, taken: Taken, inside: trio.Event) -> None:
        job = taken.log.job
        try:
            asked = replace(job.order.origin, generation_id=job.job_id)
            with origin.entered(asked):
                await self._go_on(taken, inside)
        except LeaseLostError:
            log.warning("another process goes on with a job", extra={"job": job.job_id})
        except Exception:
            log.exception("a job failed")
            await end_on_fault(taken.log, taken.epoch)
        finally:
            inside.set()
            self._more.set()

    async def _go_on(self, taken: Taken, inside: trio.Event) -> None:
        job, epoch = taken.log, taken.epoch
        order, job_id = job.job.order, job.job.job_id
        request, live = replace(order.request, model=order.model), Live(job_id)
        try:
            if taken.tries > MOST_TRIES:
                raise internal()
            before = read_progress(await _told(job), request.n)
            # It has its place before another task runs; a schema may take seconds after that.
            inside.set()
            async with self._host.admit(request, live, before, job_id) as source:
                with self._host.accounted(live, source):
                    run = Run(job, epoch, live, source, self._store.give_back)
                    await run.write(wall_s=self._wall_s)
        except PenstockError as error:
            if error.kind is UNAVAILABLE or self._is_full(error, order):
                await self._store.give_back(job, epoch)
            else:
                await job.append(epoch, Failed(error), urgent=True)

    def _is_full(self, error: PenstockError, order: Order) -> bool:
        """An account that is at its limits is told so: it would be taken again at once."""
        free = self._host.room()[order.model].free
        return error.kind is OVERLOADED and free < order.request.n


async def _told(job: Log) -> list[Event]:
    """All events there are. Raises `PenstockError`."""
    events: list[Event] = []
    last_id = (await job.state()).last_id
    while len(events) < last_id:
        events += await job.read(len(events), BATCH)
    if any(isinstance(event, Delta) and not event.tokens for event in events):
        raise internal()  # an answer that was being kept: how it went on is not known
    return events
