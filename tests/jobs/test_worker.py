"""A worker that fails on a job by itself: whoever waits for it hears so, and others go on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager

import trio

from penstock.admission import Room
from penstock.events import Failed
from penstock.generation import Generation
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.store import Log
from penstock.jobs.worker import Worker
from penstock.live import Live
from penstock.progress import Progress
from penstock.requests import GenerateRequest
from tests.redis_server import RedisServer

from .stores import BOUNDS, job, opened

PATIENCE_S = 5
"""Half a lease: nobody has waited for one."""


class Starved:
    """A host that has slots, and cannot start the process that a job needs."""

    def __init__(self) -> None:
        self.tries = 0

    def room(self) -> Mapping[str, Room]:
        return {"default": Room(slots=1, free=1)}

    def admit(
        self, request: GenerateRequest, live: Live, before: list[Progress], job: str
    ) -> AbstractAsyncContextManager[Generation]:
        self.tries += 1
        raise OSError("planted")

    def accounted(self, live: Live, source: Generation) -> AbstractContextManager[None]:
        raise AssertionError("nothing was admitted")


async def test_a_job_on_which_a_worker_fails_ends_at_once_and_is_tried_once(
    redis: RedisServer,
) -> None:
    worker, edge = (RedisStore(parse_address(redis.url), BOUNDS, lease_s=10) for _ in range(2))
    host = Starved()
    async with opened(worker), opened(edge), trio.open_nursery() as nursery:
        nursery.start_soon(Worker(host, worker, wall_s=60).run)
        with trio.fail_after(PATIENCE_S):
            for name in "ab":
                await _expect_fault(await edge.offer(job(name)))
        nursery.cancel_scope.cancel()
    assert host.tries == 2


async def _expect_fault(log: Log) -> None:
    await log.wait_end()
    terminal = (await log.state()).terminal
    assert isinstance(terminal, Failed)
    assert terminal.error.kind.code == "internal_error"
