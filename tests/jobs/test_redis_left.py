"""What is left behind: by a writer that writes no more, and of a job whose data were deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from penstock.errors import PenstockError
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.store import LeaseLostError, Log
from tests.redis_server import RedisServer

from .clocks import JumpingClock
from .ledgers import redis_ledger, terms
from .stores import BOUNDS, CANCEL, DONE, QUIET_S, delta, job, opened, quiet

PATIENCE_S = 5
JOB = "{penstock}:job:job_a"


def make(redis: RedisServer, clock: JumpingClock | None = None) -> RedisStore:
    return RedisStore(parse_address(redis.url), BOUNDS, clock=clock)


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = make(redis)
    async with opened(store):
        yield store


@pytest.fixture
async def other(redis: RedisServer) -> AsyncIterator[RedisStore]:
    """Another process."""
    store = make(redis)
    async with opened(store):
        yield store


async def taken(store: RedisStore) -> tuple[Log, int]:
    await store.offer(job())
    [got] = await store.take("default", 1, 9)
    return got.log, got.epoch


async def test_one_that_has_given_a_job_back_watches_it_no_more(store: RedisStore) -> None:
    log, epoch = await taken(store)
    await store.give_back(log, epoch)
    await quiet(store)
    assert not store._watch.logs


async def test_one_that_takes_again_what_it_gave_back_writes_it(store: RedisStore) -> None:
    log, epoch = await taken(store)
    again, later = await _take_again(store, log, epoch)
    await store.give_back(log, epoch)  # too late
    await again.append(later, delta(1))
    await quiet(store)
    assert list(store._watch.logs) == ["job_a"]


async def _take_again(store: RedisStore, log: Log, epoch: int) -> tuple[Log, int]:
    await store.give_back(log, epoch)
    [got] = await store.take("default", 1, 9)
    return got.log, got.epoch


@pytest.mark.parametrize("heard", [True, False])
async def test_one_that_was_taken_over_from_watches_it_no_more(
    store: RedisStore, other: RedisStore, heard: bool
) -> None:
    log, epoch = await taken(store)
    seen = await other.find("job_a")
    assert seen is not None
    await seen.claim()
    if heard:
        await quiet(store)
    with pytest.raises(LeaseLostError):
        await log.append(epoch, delta(1))
    await quiet(store)
    assert not store._watch.logs


async def test_a_job_whose_line_was_deleted_can_be_cancelled(
    redis: RedisServer, store: RedisStore
) -> None:
    log = await store.offer(job())
    redis.ask("DEL", "{penstock}:queue:default")
    with trio.fail_after(PATIENCE_S):
        await log.refuse(CANCEL)
        await log.wait_end()
    assert (await log.state()).status == "cancelled"


@pytest.mark.parametrize("read", [True, False])
async def test_a_job_that_was_deleted_by_hand_is_forgotten_with_what_is_due(
    redis: RedisServer, autojump_clock: MockClock, read: bool
) -> None:
    autojump_clock.autojump_threshold = QUIET_S
    forgotten = 0

    def count() -> None:
        nonlocal forgotten
        forgotten += 1

    clock = JumpingClock()
    store = RedisStore(parse_address(redis.url), BOUNDS, count, clock=clock)
    reading = make(redis, clock)
    async with opened(store), opened(reading):
        with trio.fail_after(60):
            log = await store.create(job(keep_s=3))
            await log.append(await log.claim(), DONE)
            seen = await reading.find("job_a")
            assert seen is not None
            with seen.attach():
                await quiet(reading)
                if read:
                    redis.ask("DEL", JOB)
                    await trio.sleep(5)
            if not read:
                await quiet(reading)
                redis.ask("DEL", JOB)
                await trio.sleep(5)
            assert forgotten <= 1
            assert store.held().jobs == 0
            assert redis.ask("ZCARD", "{penstock}:due") == b":0\r\n"
            await store.create(job("b"))


async def test_what_was_never_asked_of_a_redis_that_is_away_is_not_taken_back(
    durable_redis: RedisServer,
) -> None:
    """Else as much would be owed as is asked for meanwhile."""
    async with redis_ledger(durable_redis) as ledger:
        durable_redis.kill()
        for number in range(9):
            with pytest.raises(PenstockError, match="away"):
                await ledger.open(terms(str(number)), 1)
        # The first may have reached it.
        assert ledger._owed[1:] == []
