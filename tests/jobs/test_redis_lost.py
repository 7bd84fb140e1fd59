"""Logs of which a part is gone: evicted, deleted by hand, not in a backup. Nobody waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager

import pytest
import trio
from glide import Script

from penstock.admission import Room
from penstock.errors import PenstockError
from penstock.events import Event, Failed
from penstock.generation import Generation
from penstock.jobs.redis.log import RedisLog
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.worker import Worker
from penstock.live import Live
from penstock.progress import Progress
from penstock.requests import GenerateRequest
from tests.redis_server import RedisServer

from .stores import DONE, delta, deltas, job, quiet

pytestmark = pytest.mark.heavy

PATIENCE_S = 5
LOG, JOB = "{penstock}:log:job_a", "{penstock}:job:job_a"
# As after a power cut.
FORGET_THE_LAST = """
local log = KEYS[1] .. 'log:job_a'
local kept = redis.call('XRANGE', log, '-', '+', 'COUNT', 2)
redis.call('DEL', log)
for _, each in ipairs(kept) do redis.call('XADD', log, each[1], unpack(each[2])) end
return redis.call('HSET', KEYS[1] .. 'job:job_a', 'last', 2)
"""


async def written(store: RedisStore, *events: Event) -> tuple[RedisLog, int]:
    """A job with these events, and its writer's epoch."""
    log = await store.create(job())
    epoch = await log.claim()
    for event in events:
        await log.append(epoch, event)
    return log, epoch


async def found(store: RedisStore) -> RedisLog:
    log = await store.find("job_a")
    assert log is not None
    return log


async def test_readers_of_a_running_job_are_told_and_it_ends(
    redis: RedisServer, store: RedisStore, other: RedisStore
) -> None:
    log, epoch = await written(store, *deltas(1, 2))
    seen = await found(other)
    redis.ask("DEL", LOG)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_when_refused, log, epoch)
            with pytest.raises(PenstockError, match="events of this job were lost"):
                await seen.read(0, 9)
        await seen.wait_end()
    assert (await seen.state()).status == "failed"


async def _end_when_refused(log: RedisLog, epoch: int) -> None:
    error = await log.refused()
    assert error.kind.code == "internal_error"
    await log.append(epoch, Failed(error), urgent=True)


async def test_one_who_has_come_as_far_as_the_loss_is_told_too(
    redis: RedisServer, store: RedisStore, other: RedisStore
) -> None:
    """What follows would have the wrong numbers."""
    log, epoch = await written(store, *deltas(1, 2))
    seen = await found(other)
    redis.ask("DEL", LOG)
    await log.append(epoch, delta(3))
    with trio.fail_after(PATIENCE_S), pytest.raises(PenstockError, match="were lost"):
        await seen.read(1, 9)


async def test_an_answer_without_its_events_is_told_as_such(
    redis: RedisServer, store: RedisStore, other: RedisStore
) -> None:
    await written(store, *deltas(1, 2), DONE)
    seen = await found(other)
    redis.ask("DEL", LOG)
    with trio.fail_after(PATIENCE_S):
        for ask in (seen.text, lambda: seen.read(0, 9)):
            with pytest.raises(PenstockError, match="were lost"):
                await ask()
    assert (await seen.state()).terminal == DONE


async def test_a_text_without_its_beginning_is_not_given_out(
    redis: RedisServer, store: RedisStore
) -> None:
    log, epoch = await written(store, *deltas(1, 2))
    redis.ask("DEL", LOG)
    await log.append(epoch, delta(3))
    with pytest.raises(PenstockError, match="were lost"):
        await log.text()


class Idle:
    """A host that has slots and is never asked to generate anything."""

    def room(self) -> Mapping[str, Room]:
        return {"default": Room(slots=1, free=1)}

    def admit(
        self, request: GenerateRequest, live: Live, before: list[Progress], job: str
    ) -> AbstractAsyncContextManager[Generation]:
        raise AssertionError("what came before is not known")

    def accounted(self, live: Live, source: Generation) -> AbstractContextManager[None]:
        raise AssertionError("nothing was admitted")


async def test_a_worker_that_is_to_go_on_ends_it(
    redis: RedisServer, store: RedisStore, other: RedisStore
) -> None:
    log, epoch = await written(store, *deltas(1, 2))
    redis.ask("DEL", LOG)
    await store.give_back(log, epoch)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Worker(Idle(), other, wall_s=60).run)
            await log.wait_end()
            nursery.cancel_scope.cancel()
    terminal = (await log.state()).terminal
    assert isinstance(terminal, Failed)
    assert "were lost" in terminal.error.message


async def test_last_events_that_were_lost_are_waited_for(
    store: RedisStore, other: RedisStore
) -> None:
    """Whoever goes on from what is left makes them again."""
    await written(store, *deltas(1, 2, 3))
    seen = await found(other)
    await store.link.call(Script(FORGET_THE_LAST))  # type: ignore[no-untyped-call]
    got: list[Event] = []

    async def read() -> None:
        got.extend(await seen.read(2, 9))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await quiet(other)
            assert not got
            log = await found(store)
            await log.append(await log.claim(), delta(3))
    assert got == deltas(3)


async def test_one_who_had_read_more_than_the_job_came_to_in_the_end_is_told(
    store: RedisStore, other: RedisStore
) -> None:
    await written(store, *deltas(1, 2, 3, 4))
    seen = await found(other)
    await store.link.call(Script(FORGET_THE_LAST))  # type: ignore[no-untyped-call]
    log = await found(store)
    await log.append(await log.claim(), DONE)
    with trio.fail_after(PATIENCE_S), pytest.raises(PenstockError, match="were lost"):
        await seen.read(3, 9)


async def test_a_log_that_is_ahead_of_its_job_takes_no_process_down(
    redis: RedisServer, store: RedisStore, other: RedisStore
) -> None:
    await written(store, *deltas(1, 2, 3))
    redis.ask("HSET", JOB, "last", "1")
    log = await found(store)
    with trio.fail_after(PATIENCE_S):
        epoch = await log.claim()
        await log.append(epoch, delta(2))
        await log.append(epoch, DONE)
        seen = await found(other)
        assert await seen.read(1, 9) == [delta(2), DONE]
        with pytest.raises(PenstockError, match="were lost"):
            await seen.read(0, 9)
