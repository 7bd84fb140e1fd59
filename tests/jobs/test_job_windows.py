"""Processes that were told different windows: a job has that of whoever made it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from functools import partial

import trio

from penstock.generation import Generation
from penstock.jobs.jobs import Jobs
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.store import Log
from penstock.live import Live
from penstock.metrics import Metrics
from penstock.requests import GenerateRequest
from tests.redis_server import RedisServer

from .stores import BOUNDS, delta, job, opened

PATIENCE_S = 10
WIDE = 2 * BOUNDS.window


class Edge:
    """A host that leaves all decoding to others."""

    decodes = False

    def most_tokens(self, request: GenerateRequest) -> int:
        return WIDE

    def admit(
        self, request: GenerateRequest, live: Live, *, job: str
    ) -> AbstractAsyncContextManager[Generation]:
        raise AssertionError("it decodes nothing")

    def accounted(self, live: Live, source: Generation) -> AbstractContextManager[None]:
        raise AssertionError("it decodes nothing")


async def test_a_worker_with_a_narrower_window_goes_by_that_of_the_edge(redis: RedisServer) -> None:
    make = partial(RedisStore, parse_address(redis.url))
    edge = Jobs(Edge(), replace(BOUNDS, window=WIDE), Metrics(), make)
    worker = make(BOUNDS)
    async with opened(worker), trio.open_nursery() as nursery:
        nursery.start_soon(edge.run)
        with trio.fail_after(PATIENCE_S):
            while edge.shared is None or edge.shared.unready():  # noqa: ASYNC110  # a real Redis
                await trio.sleep(0.01)
            read = (await edge.submit(job().order)).log
            with read.attach():
                while (await read.state()).last_id < WIDE:
                    for taken in await worker.take("default", 1, 1):
                        nursery.start_soon(_write, taken.log, taken.epoch)
                    await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def _write(log: Log, epoch: int) -> None:
    for number in range(1, WIDE + 1):
        await log.append(epoch, delta(number))
