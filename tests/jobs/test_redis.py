"""Several processes on one Redis, and a Redis that goes away. Each store stands for a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import trio

from penstock.errors import PenstockError
from penstock.events import Event
from penstock.jobs.job import JobBounds
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.replay import Replay
from penstock.jobs.store import LeaseLostError, Log, Store
from tests.redis_server import RedisServer

from .stores import BOUNDS, CANCEL, DONE, GONE, delta, deltas, job, opened, quiet

pytestmark = pytest.mark.heavy

PATIENCE_S = 20


def make(redis: RedisServer, bounds: JobBounds = BOUNDS) -> Store:
    return RedisStore(parse_address(redis.url), bounds)


@dataclass
class Pair:
    """A job that is written here, and its log as seen from there."""

    here: Store
    there: Store

    async def log(self, **asked: int) -> tuple[Log, int, Log]:
        log = await self.here.create(job(**asked))  # type: ignore[arg-type]
        epoch = await log.claim()
        seen = await self.there.find(log.job.job_id)
        assert seen is not None
        return log, epoch, seen


@pytest.fixture
async def pair(redis: RedisServer) -> AsyncIterator[Pair]:
    async with opened(make(redis)) as here, opened(make(redis)) as there:
        yield Pair(here, there)


async def test_a_job_is_the_same_everywhere(pair: Pair) -> None:
    log, _, seen = await pair.log(window=3)
    assert seen is not log
    assert seen.job == log.job
    assert [each.job for each in await pair.there.listed("", 9)] == [log.job]
    assert await pair.there.create(log.job) is seen


async def test_what_is_written_here_is_read_there_as_it_comes(pair: Pair) -> None:
    log, epoch, seen = await pair.log()
    got: list[Event] = []

    async def read() -> None:
        async def emit(event: Event) -> None:
            got.append(event)

        got.append(await Replay(seen, 0)(emit))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(1, 40):
                await log.append(epoch, delta(number))
            await log.append(epoch, DONE)
    assert got == [*deltas(*range(1, 40)), DONE]


async def test_a_reader_elsewhere_holds_up_the_writer_until_it_moves_or_leaves(pair: Pair) -> None:
    log, epoch, seen = await pair.log()

    async def write() -> None:
        for number in range(1, 8):
            await log.append(epoch, delta(number))

    with trio.fail_after(PATIENCE_S):
        with seen.attach() as reader:
            await quiet(pair.here)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await quiet(pair.here)
                assert (await log.state()).last_id == 4
                reader.move(3)
        await log.append(epoch, delta(8))
    assert (await log.state()).last_id == 8


async def test_an_acknowledgement_from_elsewhere_makes_room(pair: Pair) -> None:
    log, epoch, seen = await pair.log(window=1)
    with trio.fail_after(PATIENCE_S):
        await log.append(epoch, delta(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.append, epoch, delta(2))
            await quiet(pair.here)
            assert (await seen.state()).last_id == 1
            await seen.acknowledge(1)
    assert (await seen.state()).last_id == 2


async def test_a_refusal_from_elsewhere_reaches_the_writer(pair: Pair) -> None:
    log, epoch, seen = await pair.log()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen.wait_end)
            nursery.start_soon(seen.refuse, CANCEL)
            assert (await log.refused()).kind is CANCEL.kind
            await log.append(epoch, GONE, urgent=True)
    assert (await seen.state()).status == "cancelled"


async def test_one_who_was_taken_over_from_writes_nothing_more(pair: Pair) -> None:
    log, epoch, seen = await pair.log(window=2)
    with trio.fail_after(PATIENCE_S):
        await log.append(epoch, delta(1))
        await log.append(epoch, delta(2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_lost, log, epoch)
            await quiet(pair.here)
            successor = await seen.claim()
        with pytest.raises(LeaseLostError):
            await log.append(epoch, delta(7), urgent=True)
        await seen.acknowledge(2)
        await seen.append(successor, delta(3))
    assert list(await log.read(0, 9)) == deltas(1, 2, 3)


async def _expect_lost(log: Log, epoch: int) -> None:
    with pytest.raises(LeaseLostError):
        await log.append(epoch, delta(3))


async def test_the_end_is_heard_elsewhere(pair: Pair) -> None:
    log, epoch, seen = await pair.log()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen.wait_end)
            await quiet(pair.here)
            await log.append(epoch, DONE)
    assert (await seen.state()).terminal == DONE


async def test_one_key_makes_one_job_wherever_it_is_used(pair: Pair) -> None:
    made: list[Log] = []

    async def create(store: Store, name: str) -> None:
        made.append(await store.create(job(name, key="k")))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(create, (pair.here, pair.there)[number % 2], str(number))
    assert len({log.job.job_id for log in made}) == 1
    assert pair.here.held().jobs == 1


async def test_nothing_is_left_once_all_is_forgotten(redis: RedisServer) -> None:
    """Neither keys nor memory, whatever was read, refused or kept for a key."""
    roomy = JobBounds(
        window=4, wall_s=60, keep_s=10, resume_window_s=5, max_jobs=500, log_bytes=1 << 30
    )
    async with opened(make(redis, roomy)) as store:
        await _live_through(store, 20)
        before = redis.memory_bytes()
        await _live_through(store, 300)
        left = redis.ask("KEYS", "*")
        after = redis.memory_bytes()
    # What is alive, the counts, and the number of the newest.
    assert left.startswith(b"*3\r\n"), left
    assert after - before < 64 << 10
    assert redis.ask("KEYS", "*").startswith(b"*2\r\n")


async def _live_through(store: Store, count: int) -> None:
    with trio.fail_after(PATIENCE_S):
        for number in range(count):
            log = await store.create(job(str(number), key=str(number), keep_s=0.001))
            epoch = await log.claim()
            with log.attach():
                await log.append(epoch, delta(1))
                await log.acknowledge(1)
                await log.refuse(CANCEL)
                await log.append(epoch, DONE)
        while store.held().jobs:  # noqa: ASYNC110  # Redis's own time passes
            await trio.sleep(0.01)


# A Redis that goes away


async def test_while_redis_is_away_all_wait_and_then_go_on(durable_redis: RedisServer) -> None:
    got: list[Event] = []

    async def read(log: Log) -> None:
        async def emit(event: Event) -> None:
            got.append(event)

        got.append(await Replay(log, 0)(emit))

    async def write(log: Log, epoch: int) -> None:
        for number in range(1, 301):
            await log.append(epoch, delta(number))
        await log.append(epoch, DONE)

    async with opened(make(durable_redis)) as here, opened(make(durable_redis)) as there:
        log, epoch, seen = await Pair(here, there).log()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, seen)
                nursery.start_soon(write, log, epoch)
                for made in (50, 100, 150, 200, 250):
                    while len(got) < made:  # noqa: ASYNC110  # real processes take real time
                        await trio.sleep(0.002)
                    durable_redis.kill()
                    await trio.to_thread.run_sync(durable_redis.start)
    assert got == [*deltas(*range(1, 301)), DONE]


async def test_while_redis_is_away_it_is_told_at_once(durable_redis: RedisServer) -> None:
    async with opened(make(durable_redis)) as store:
        log = await store.create(job())
        durable_redis.kill()
        with trio.fail_after(PATIENCE_S):
            for _ in range(3):
                with pytest.raises(PenstockError) as caught:
                    await store.create(job("b"))
                assert (caught.value.kind.code, caught.value.kind.status) == ("unavailable", 429)
                assert caught.value.retry_after_s
            with pytest.raises(PenstockError):
                await log.state()
            await trio.to_thread.run_sync(durable_redis.start)
            await _returns(log)
        assert (await log.state()).status == "queued"


async def _returns(log: Log) -> None:
    while True:
        with suppress(PenstockError):
            await log.state()
            return
        await trio.sleep(0.01)


async def test_a_redis_that_is_full_is_waited_for(redis: RedisServer) -> None:
    async with opened(make(redis)) as store:
        log = await store.create(job())
        epoch = await log.claim()
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(PenstockError) as caught:
                await store.create(job("b"))
            assert caught.value.kind.code == "unavailable"
        finally:
            redis.ask("CONFIG", "SET", "maxmemory", "0")
        with trio.fail_after(PATIENCE_S):
            await log.append(epoch, delta(1))
        assert (await log.state()).last_id == 1


async def test_a_store_that_is_not_there_yet_is_waited_for(durable_redis: RedisServer) -> None:
    durable_redis.kill()
    store = make(durable_redis)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        with pytest.raises(PenstockError):
            await store.find("job_a")
        await trio.to_thread.run_sync(durable_redis.start)
        with trio.fail_after(PATIENCE_S):
            async with opened(make(durable_redis)) as other:
                log = await other.create(job())
                await _returns(log)
        nursery.cancel_scope.cancel()


async def test_a_redis_that_has_forgotten_everything_leaves_nobody_waiting(
    redis: RedisServer,
) -> None:
    async with opened(make(redis)) as store:
        log = await store.create(job())
        epoch = await log.claim()
        await log.append(epoch, delta(1))
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log.wait_end)
                redis.ask("FLUSHALL")
        with pytest.raises(LeaseLostError):
            await log.append(epoch, delta(2))
