"""A Redis that is full: what is new is refused, what was accepted goes on, and room comes."""

from __future__ import annotations

from contextlib import suppress
from itertools import count

import pytest
import trio

from penstock.build import make_edge
from penstock.errors import PenstockError
from penstock.jobs.job import Job, JobBounds
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.store import Store
from penstock.service import Service
from penstock.settings import Settings
from tests.redis_server import RedisServer

from .stores import BOUNDS, DONE, deltas, job, opened

pytestmark = pytest.mark.heavy

PATIENCE_S = 20
KEEP_S = 2
ROOM_BYTES = 1 << 19
ROOMY = JobBounds(
    window=4, wall_s=60, keep_s=1, resume_window_s=5, max_jobs=100_000, log_bytes=1 << 30
)


def make(redis: RedisServer, bounds: JobBounds = BOUNDS) -> RedisStore:
    return RedisStore(parse_address(redis.url), bounds, lease_s=1)


async def test_what_is_new_is_refused_and_what_was_accepted_goes_on(
    durable_redis: RedisServer,
) -> None:
    redis = durable_redis
    async with opened(make(redis)) as here, opened(make(redis)) as there:
        log = await here.create(job())
        epoch = await log.claim()
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(PenstockError, match="the store of jobs is full") as caught:
            await here.create(job("b"))
        assert (caught.value.kind.code, caught.value.kind.status) == ("unavailable", 429)
        assert caught.value.retry_after_s
        with trio.fail_after(PATIENCE_S):
            seen = await there.find("job_a")
            assert seen is not None
            for event in [*deltas(1, 2), DONE]:
                await log.append(epoch, event)
            assert await seen.read(0, 9) == [*deltas(1, 2), DONE]
            await there.delete("job_a")
        assert await there.find("job_a") is None


async def test_it_is_told_whether_a_store_is_full_or_away(durable_redis: RedisServer) -> None:
    redis = durable_redis
    store = make(redis)
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    assert store.unready() == "the store of jobs is away"
    with trio.fail_after(PATIENCE_S):
        async with opened(store):
            await _told(store, full=True)
            redis.ask("CONFIG", "SET", "maxmemory", "0")
            await _told(store, full=False)
            redis.kill()
            await _told(store, full=False, unready="the store of jobs is away")


async def _told(store: RedisStore, *, full: bool, unready: str | None = None) -> None:
    while (store.full, store.unready()) != (full, unready):  # noqa: ASYNC110  # Redis's own time
        await trio.sleep(0.01)


async def test_an_edge_whose_store_is_full_stays_ready_and_says_so(
    durable_redis: RedisServer,
) -> None:
    """Taken out of service it would cut running streams, and nobody could read what has ended."""
    redis = durable_redis
    edge = make_edge(Settings(role="edge", store=redis.url, lease_s=1), {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(edge.run)
        with trio.fail_after(PATIENCE_S):
            for memory, full in (("1", "1.0"), ("0", "0.0")):
                redis.ask("CONFIG", "SET", "maxmemory", memory)
                await _shown(edge, f"penstock_store_full {full}\n")
                assert await edge.unready() is None
        nursery.cancel_scope.cancel()


async def _shown(edge: Service, line: str) -> None:
    while line not in edge.metrics.render().decode():  # noqa: ASYNC110  # a real server's pace
        await trio.sleep(0.01)


async def test_room_comes_by_itself_when_jobs_are_forgotten(durable_redis: RedisServer) -> None:
    async with opened(make(durable_redis, ROOMY)) as store:
        with trio.fail_after(PATIENCE_S):
            await _fill(durable_redis, store)
            while store.held().jobs > 1:  # noqa: ASYNC110  # Redis's own time passes
                await trio.sleep(0.01)
            await store.create(job("new"))


async def test_a_process_that_starts_while_it_is_full_forgets_what_is_due(
    durable_redis: RedisServer,
) -> None:
    with trio.fail_after(PATIENCE_S):
        async with opened(make(durable_redis, ROOMY)) as store:
            await _fill(durable_redis, store)
        async with opened(make(durable_redis, ROOMY)) as store:
            while True:
                with suppress(PenstockError):
                    await store.create(job("new"))
                    break
                await trio.sleep(0.01)


async def _fill(redis: RedisServer, store: Store) -> None:
    """With jobs that have ended, and are kept for a while."""
    await _live(store, job("first"))
    redis.ask("CONFIG", "SET", "maxmemory", str(redis.memory_bytes() + ROOM_BYTES))
    with pytest.raises(PenstockError, match="full"):
        await _live_on(store)
    assert store.held().jobs > 1


async def _live_on(store: Store) -> None:
    for number in count():
        await _live(store, job(str(number), keep_s=KEEP_S))


async def _live(store: Store, made: Job) -> None:
    log = await store.create(made)
    await log.append(await log.claim(), DONE)
