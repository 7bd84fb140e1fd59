"""Jobs in line, and who works on them: what a shared store does beyond the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from glide import Script
from trio.testing import MockClock

from penstock.errors import PenstockError
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.clock import Clock
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.store import LeaseLostError, Taken
from tests.redis_server import RedisServer

from .clocks import JumpingClock
from .stores import BOUNDS, CANCEL, QUIET_S, delta, deltas, job, opened, quiet

SLOTS = 9
# As another release would have written it.
SPOIL = "return redis.call('HSET', KEYS[1] .. 'job:' .. ARGV[3], 'order', '\\129\\161x\\1')"
LEASE_S = 10


def make(redis: RedisServer, *, line: int = 9, clock: Clock | None = None) -> RedisStore:
    address = parse_address(redis.url)
    return RedisStore(address, BOUNDS, lease_s=LEASE_S, line=line, clock=clock)


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = make(redis)
    async with opened(store):
        yield store


def names(taken: Sequence[Taken]) -> list[str]:
    return [each.log.job.job_id for each in taken]


async def test_jobs_are_taken_in_turn_and_once(store: RedisStore) -> None:
    for name in "abc":
        await store.offer(job(name))
    assert names(await store.take("default", 2, SLOTS)) == ["job_a", "job_b"]
    assert names(await store.take("other", 2, SLOTS)) == []
    assert names(await store.take("default", 0, SLOTS)) == []
    assert names(await store.take("default", 2, SLOTS)) == ["job_c"]
    assert names(await store.take("default", 2, SLOTS)) == []


async def test_a_line_that_is_full_takes_no_more(redis: RedisServer) -> None:
    store = make(redis, line=2)
    async with opened(store):
        await store.offer(job("a"))
        await store.offer(job("b"))
        with pytest.raises(PenstockError) as caught:
            await store.offer(job("c", key="k"))
        assert (caught.value.kind.code, bool(caught.value.retry_after_s)) == ("overloaded", True)
        assert await store.find_key("", "k") is None
        await store.take("default", 1, SLOTS)
        await store.offer(job("c"))


async def test_a_worker_that_waits_hears_of_a_job_at_once(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 10 * QUIET_S
    worker, edge = make(redis), make(redis)
    async with opened(worker), opened(edge):
        assert not await worker.take("default", 1, SLOTS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(edge.offer, job("a"))
            began_s = trio.current_time()
            await worker.wait_work()
        assert trio.current_time() == began_s
        assert names(await worker.take("default", 1, SLOTS)) == ["job_a"]


async def test_a_lease_lasts_while_its_process_lives_and_no_longer(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = QUIET_S
    clock = JumpingClock()
    heir = make(redis, clock=clock)
    async with opened(heir):
        worker = make(redis, clock=clock)
        async with opened(worker):
            await worker.offer(job("a"))
            [taken] = await worker.take("default", 1, SLOTS)
            log, epoch = taken.log, taken.epoch
            await log.append(epoch, delta(1))
            await trio.sleep(2 * LEASE_S)
            assert not await heir.take("default", 1, SLOTS)
        await trio.sleep(LEASE_S / 2)
        assert not await heir.take("default", 1, SLOTS)
        await trio.sleep(LEASE_S)
        [taken] = await heir.take("default", 1, SLOTS)
        again, later = taken.log, taken.epoch
        assert later > epoch
        await again.append(later, delta(2))
        assert list(await again.read(0, 9)) == deltas(1, 2)


async def test_what_is_given_back_goes_to_the_next_who_asks_and_is_written_by_them(
    store: RedisStore,
) -> None:
    for name in "ab":
        await store.offer(job(name))
    [taken] = await store.take("default", 1, SLOTS)
    log, epoch = taken.log, taken.epoch
    await store.give_back(log, epoch)
    with pytest.raises(LeaseLostError):
        await log.append(epoch, delta(1))
    [taken] = await store.take("default", 1, SLOTS)
    again, later = taken.log, taken.epoch
    assert again.job.job_id == "job_a"
    await again.append(later, delta(1))
    await store.give_back(log, epoch)  # one who does not know it is too late
    assert names(await store.take("default", 2, SLOTS)) == ["job_b"]


async def test_a_job_that_was_lost_or_given_back_is_not_watched_any_more(
    redis: RedisServer,
) -> None:
    here, there = make(redis), make(redis)
    async with opened(here), opened(there):
        for name in "ab":
            await here.offer(job(name))
        lost, back = await here.take("default", 2, SLOTS)
        await here.give_back(back.log, back.epoch)
        found = await there.find("job_a")
        assert found is not None
        await found.claim()
        await quiet(here)
        with pytest.raises(LeaseLostError):
            await lost.log.append(lost.epoch, delta(1))
        await quiet(here)
        for name in "ab":
            assert redis.ask("HEXISTS", f"{{penstock}}:watch:job_{name}", here.link.me) == b":0\r\n"


async def test_a_job_in_line_ends_where_it_stands_when_it_is_refused(store: RedisStore) -> None:
    log = await store.offer(job("a"))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.wait_end)
            await log.refuse(CANCEL)
    assert (await log.state()).status == "cancelled"
    assert not await store.take("default", 1, SLOTS)
    await quiet(store)
    assert store.held().running == 0
    await store.delete("job_a")
    assert store.held().jobs == 0


async def test_a_job_whose_writer_is_dead_ends_where_it_stands_when_it_is_refused(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = QUIET_S
    edge = make(redis)
    async with opened(edge):
        worker = make(redis)
        async with opened(worker):
            await worker.offer(job("a"))
            [taken] = await worker.take("default", 1, SLOTS)
            await taken.log.append(taken.epoch, delta(1))
        log = await edge.find("job_a")
        assert log is not None
        await log.refuse(CANCEL)
        assert ((await log.state()).status, log.known().last_id) == ("cancelled", 2)
        assert log.seen.epoch == taken.epoch + 1


async def test_an_order_that_cannot_be_read_here_ends_alone(redis: RedisServer) -> None:
    edge, worker = make(redis), make(redis)
    async with opened(edge), opened(worker):
        log = await edge.offer(job("a"))
        await edge.offer(job("b"))
        await edge.link.call(Script(SPOIL), "job_a")  # type: ignore[no-untyped-call]
        assert names(await worker.take("default", 2, SLOTS)) == ["job_b"]
        assert (await log.state()).status == "failed"


async def test_a_refused_job_that_is_given_back_ends(store: RedisStore) -> None:
    await store.offer(job("a"))
    [taken] = await store.take("default", 1, SLOTS)
    await taken.log.append(taken.epoch, delta(1))
    await taken.log.refuse(CANCEL)
    await store.give_back(taken.log, taken.epoch)
    assert (await taken.log.state()).status == "cancelled"
    assert len(await taken.log.read(0, 9)) == 2
    assert not await store.take("default", 1, SLOTS)


async def test_several_answers_wait_in_their_turn_for_as_many_slots(store: RedisStore) -> None:
    await store.offer(job("a", answers=2))
    await store.offer(job("b"))
    assert names(await store.take("default", 1, 4)) == []
    assert names(await store.take("default", 3, 4)) == ["job_a", "job_b"]
    await store.offer(job("c", answers=5))
    assert names(await store.take("default", 3, 4)) == []
    assert names(await store.take("default", 4, 4)) == ["job_c"]


async def test_jobs_whose_writers_are_dead_wait_for_slots_too(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = QUIET_S
    clock = JumpingClock()
    heir = make(redis, clock=clock)
    async with opened(heir):
        worker = make(redis, clock=clock)
        async with opened(worker):
            await worker.offer(job("a", answers=2))
            assert names(await worker.take("default", 2, 2)) == ["job_a"]
        await heir.offer(job("b"))
        await trio.sleep(2 * LEASE_S)
        assert names(await heir.take("default", 1, 2)) == []
        assert names(await heir.take("default", 3, 4)) == ["job_a", "job_b"]


async def test_to_be_given_back_is_no_try(store: RedisStore) -> None:
    await store.offer(job("a"))
    for _ in range(30):
        [taken] = await store.take("default", 1, SLOTS)
        await store.give_back(taken.log, taken.epoch)
    [taken] = await store.take("default", 1, SLOTS)
    assert (taken.tries, taken.epoch) == (1, 61)


async def test_without_a_line_a_job_is_let_in_where_a_slot_is_known_to_be_free(
    redis: RedisServer,
) -> None:
    edge, worker = make(redis, line=0), make(redis)
    async with opened(edge), opened(worker):
        with pytest.raises(PenstockError, match="wait"):
            await edge.offer(job("a"))
        assert not await worker.take("default", 2, SLOTS)
        await edge.offer(job("a"))
        await edge.offer(job("b"))
        with pytest.raises(PenstockError, match="wait"):
            await edge.offer(job("c"))
        assert names(await worker.take("default", 2, SLOTS)) == ["job_a", "job_b"]
