"""What every store does: a contract, tried on each implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from penstock.errors import Kind, PenstockError
from penstock.events import Event, Failed
from penstock.jobs.memory import MemoryStore
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.store import LeaseLostError, Log, Store
from tests.checkpoints import cancel_everywhere
from tests.redis_server import RedisServer

from .clocks import JumpingClock
from .stores import (
    BOUNDS,
    CANCEL,
    DONE,
    GONE,
    QUIET_S,
    STORES,
    MakeStore,
    delta,
    deltas,
    job,
    opened,
    quiet,
)

LONG_S = 1000
"""Of a clock that jumps."""


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    if request.param == "memory":
        return MemoryStore
    redis: RedisServer = request.getfixturevalue("redis")
    if "autojump_clock" in request.fixturenames:
        # Who waits for Redis does not wait for time to pass.
        request.getfixturevalue("autojump_clock").autojump_threshold = QUIET_S
        return partial(RedisStore, parse_address(redis.url), clock=JumpingClock())
    return partial(RedisStore, parse_address(redis.url))


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    async with opened(make_store(BOUNDS)) as store:
        yield store


async def filled(store: Store, count: int, *, window: int | None = None) -> tuple[Log, int]:
    """A log with events, and its writer's epoch."""
    log = await store.create(job(window=window))
    epoch = await log.claim()
    for number in range(1, count + 1):
        await log.append(epoch, delta(number))
    return log, epoch


async def test_events_are_read_from_any_number_on_as_they_were_written(store: Store) -> None:
    log, epoch = await filled(store, 3)
    await log.append(epoch, DONE)
    assert list(await log.read(0, 99)) == [*deltas(1, 2, 3), DONE]
    assert list(await log.read(1, 2)) == deltas(2, 3)
    assert list(await log.read(3, 2)) == [DONE]
    assert list(await log.read(4, 2)) == []
    assert list(await log.read(9, 2)) == []
    assert await log.text() == " 1 2 3"


async def test_a_state_says_how_far_it_is(store: Store) -> None:
    log = await store.create(job())
    epoch = await log.claim()
    assert ((await log.state()).status, (await log.state()).last_id) == ("queued", 0)
    await log.append(epoch, delta(1))
    assert ((await log.state()).status, (await log.state()).last_id) == ("running", 1)
    await log.append(epoch, DONE)
    state = await log.state()
    assert (state.status, state.last_id, state.terminal) == ("completed", 2, DONE)


async def test_a_reader_waits_for_what_is_not_there_yet(store: Store) -> None:
    log, epoch = await filled(store, 1)
    got: list[Event] = []

    async def read(after: int) -> None:
        got.extend(await log.read(after, 9))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 1)
        nursery.start_soon(read, 2)
        await quiet(store)
        assert got == []
        await log.append(epoch, delta(2))
        await quiet(store)
        assert got == deltas(2)
        await log.append(epoch, DONE)
    assert got == [delta(2), DONE]


async def test_one_who_waits_beyond_the_end_is_told_that_nothing_comes(store: Store) -> None:
    log, epoch = await filled(store, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.append, epoch, DONE)
        assert list(await log.read(2, 9)) == []


async def test_what_several_tasks_of_one_writer_write_at_once_is_all_there(store: Store) -> None:
    log, epoch = await filled(store, 1)
    async with trio.open_nursery() as nursery:
        for number in (2, 3, 4):
            nursery.start_soon(log.append, epoch, delta(number))
    events = await log.read(0, 9)
    assert sorted(map(str, events)) == sorted(map(str, deltas(1, 2, 3, 4)))


async def test_only_the_newest_writer_writes(store: Store) -> None:
    """One that was paused and comes back finds that another has gone on."""
    log, paused = await filled(store, 1)
    successor = await log.claim()
    assert successor > paused
    with pytest.raises(LeaseLostError):
        await log.append(paused, delta(7), urgent=True)
    await log.append(successor, delta(2))
    assert list(await log.read(0, 9)) == deltas(1, 2)


async def test_a_writer_that_waits_for_room_learns_that_it_was_replaced(store: Store) -> None:
    log, epoch = await filled(store, 1, window=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect_lost, log, epoch)
        await quiet(store)
        await log.claim()
    assert (await log.state()).last_id == 1


async def _expect_lost(log: Log, epoch: int) -> None:
    with pytest.raises(LeaseLostError):
        await log.append(epoch, delta(2))


async def test_nothing_follows_the_end(store: Store) -> None:
    log, epoch = await filled(store, 1)
    await log.append(epoch, DONE)
    with pytest.raises(LeaseLostError):
        await log.append(epoch, GONE, urgent=True)
    assert (await log.state()).terminal == DONE


async def test_a_window_binds_with_and_without_readers(store: Store) -> None:
    log, epoch = await filled(store, 2, window=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.append, epoch, delta(3))
        with log.attach() as reader:
            reader.move(2)
            await quiet(store)
            assert (await log.state()).last_id == 2
        await log.acknowledge(1)
    assert (await log.state()).last_id == 3
    with trio.move_on_after(0):
        await log.append(epoch, DONE)
    await log.acknowledge(0)
    assert (await log.state()).acknowledged == 1
    await log.append(epoch, GONE, urgent=True)
    assert (await log.state()).last_id == 4


async def test_a_read_job_is_only_so_far_ahead_of_the_furthest_reader(store: Store) -> None:
    log, epoch = await filled(store, 3)
    with log.attach() as near, log.attach() as far:
        near.move(1)
        far.move(3)
        for number in (4, 5, 6, 7):
            await log.append(epoch, delta(number))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.append, epoch, delta(8))
            near.move(2)
            await quiet(store)
            assert (await log.state()).last_id == 7
            far.move(4)
        assert (await log.state()).last_id == 8


async def test_a_job_that_its_last_reader_left_goes_on(store: Store) -> None:
    log, epoch = await filled(store, 0)
    async with trio.open_nursery() as nursery:
        with log.attach():
            for number in (1, 2, 3, 4):
                await log.append(epoch, delta(number))
            nursery.start_soon(log.append, epoch, delta(5))
            await quiet(store)
            assert (await log.state()).last_id == 4
    assert (await log.state()).last_id == 5


async def test_cancelling_a_writer_means_that_nothing_was_written(store: Store) -> None:
    log, epoch = await filled(store, 1, window=1)
    written = 0

    async def scenario() -> None:
        nonlocal written
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.acknowledge, (await log.state()).last_id)
            await log.append(epoch, delta(9))
            written += 1

    async def check(cut_short: bool) -> None:
        assert (await log.state()).last_id == 1 + written

    assert await cancel_everywhere(scenario, check) > 3


async def test_a_refusal_reaches_the_writer_and_the_first_counts(store: Store) -> None:
    log, _ = await filled(store, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.refuse, CANCEL)
        assert told(await log.refused()) == told(CANCEL)
    await log.refuse(PenstockError(CANCEL.kind, "again"))
    assert told(await log.refused()) == told(CANCEL)


def told(error: PenstockError) -> tuple[Kind, str]:
    return error.kind, error.message


async def test_a_job_that_nobody_reads_is_refused_in_time(
    store: Store, autojump_clock: MockClock
) -> None:
    log = await store.create(job(unread_s=5))
    with log.attach():
        with trio.move_on_after(100) as read:
            await log.refused()
        assert read.cancelled_caught
    await trio.sleep(4)
    with log.attach():
        await trio.sleep(4)
    left_s = trio.current_time()
    assert (await log.refused()).kind.reason == "unread"
    assert trio.current_time() - left_s == pytest.approx(5)


async def test_a_job_that_was_never_read_is_refused_in_time(
    store: Store, autojump_clock: MockClock
) -> None:
    log = await store.create(job(unread_s=5))
    assert (await log.refused()).kind.reason == "unread"
    assert trio.current_time() == pytest.approx(5)


async def test_a_job_that_is_held_up_and_that_nobody_reads_is_refused_in_time(
    store: Store, autojump_clock: MockClock
) -> None:
    """Each acknowledgement that makes room begins the time anew, and a reader holds it on."""
    log = await store.create(job(window=1, keep_s=10))
    epoch = await log.claim()
    refusals: list[PenstockError] = []

    async def obey() -> None:
        refusals.append(await log.refused())
        nursery.cancel_scope.cancel()

    async def write() -> None:
        for number in range(1, 9):
            await log.append(epoch, delta(number))

    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey)
            nursery.start_soon(write)
            for number in (1, 2, 3):
                await trio.sleep(9)
                await log.acknowledge(number)
            with log.attach() as reader:
                reader.move(3)
                await trio.sleep(99)
            left_s = trio.current_time()
            await trio.sleep(9)
            assert not refusals
    assert refusals[0].kind.reason == "unread"
    assert trio.current_time() - left_s == pytest.approx(10, abs=0.5)
    assert (await log.state()).last_id == 4


async def test_a_job_that_nobody_reads_has_its_time_only_while_it_is_held_up(
    store: Store, autojump_clock: MockClock
) -> None:
    log = await store.create(job(window=2, keep_s=10))
    epoch = await log.claim()
    await log.append(epoch, delta(1))
    await log.append(epoch, delta(2))
    with trio.move_on_after(99) as waited:
        await log.refused()
    assert waited.cancelled_caught
    began_s = trio.current_time()
    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_cancelled, log, epoch)
            assert (await log.refused()).kind.reason == "unread"
            nursery.cancel_scope.cancel()
    assert trio.current_time() - began_s == pytest.approx(10, abs=0.5)


async def _expect_cancelled(log: Log, epoch: int) -> None:
    await log.append(epoch, delta(3))
    raise AssertionError("there was no room")


async def test_the_end_wakes_those_who_wait_for_it(store: Store) -> None:
    log, epoch = await filled(store, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.wait_end)
        nursery.start_soon(log.wait_end)
        await quiet(store)
        await log.append(epoch, DONE)
    await log.wait_end()


async def test_a_key_stands_for_one_job_of_its_owner(store: Store) -> None:
    first = await store.create(job("a", owner="x", key="k"))
    assert await store.create(job("b", owner="x", key="k")) is first
    other = await store.create(job("c", owner="y", key="k"))
    assert other.job.job_id == "job_c"
    found = await store.find_key("x", "k")
    assert found is not None
    assert found.job.job_id == "job_a"
    assert await store.find("job_b") is None
    assert await store.find_key("x", "other") is None
    assert store.held().jobs == 2


async def test_jobs_are_listed_for_their_owner_the_newest_first(store: Store) -> None:
    for name, owner in (("a", "x"), ("b", "y"), ("c", "x")):
        await store.create(job(name, owner=owner))
    await store.create(job("d", owner="x", listed=False))
    assert [log.job.job_id for log in await store.listed("x", 9)] == ["job_c", "job_a"]
    assert [log.job.job_id for log in await store.listed("x", 1)] == ["job_c"]
    assert [log.job.job_id for log in await store.listed("z", 9)] == []


async def test_too_many_jobs_or_bytes_are_refused_and_leave_no_trace(store: Store) -> None:
    for name in "abcd":
        await store.create(job(name))
    before = store.held()
    with pytest.raises(PenstockError) as caught:
        await store.create(job("big", key="k", reserved=9_700))
    assert (caught.value.kind.code, caught.value.retry_after_s) == ("overloaded", 60)
    assert (store.held(), await store.find_key("", "k")) == (before, None)
    await store.create(job("e", reserved=9_600))
    with pytest.raises(PenstockError):
        await store.create(job("f", reserved=0))
    assert store.held().log_bytes == 10_000


async def end(store: Store, name: str, **asked: float) -> Log:
    log = await store.create(job(name, **asked))  # type: ignore[arg-type]
    await log.append(await log.claim(), DONE)
    return log


async def test_what_has_ended_is_forgotten_in_time_and_gives_its_bytes_back(
    store: Store, autojump_clock: MockClock
) -> None:
    await end(store, "short", keep_s=3)
    await end(store, "long", keep_s=10)
    running = await store.create(job("running", keep_s=1))
    await trio.sleep(2.9)
    assert await store.find("job_short") is not None
    await trio.sleep(0.2)
    assert await store.find("job_short") is None
    assert await store.find("job_long") is not None
    await trio.sleep(10)
    assert store.held() == replace(store.held(), jobs=1, running=1, log_bytes=100)
    assert await store.find("job_running") is running


async def test_what_is_being_read_is_not_forgotten(store: Store, autojump_clock: MockClock) -> None:
    log = await end(store, "a", keep_s=3)
    with log.attach():
        assert store.held().readers == 1
        await trio.sleep(50)
        assert await store.find("job_a") is log
    await trio.sleep(2.5)
    assert await store.find("job_a") is log
    await trio.sleep(3)
    assert await store.find("job_a") is None


async def test_what_is_deleted_is_gone_but_not_under_its_readers(store: Store) -> None:
    log = await end(store, "a")
    await store.delete("job_unknown")
    await store.delete("job_a")
    await store.delete("job_a")
    assert await store.find("job_a") is None
    assert list(await log.read(0, 9)) == [DONE]
    assert store.held().log_bytes == 0


async def test_what_runs_cannot_be_deleted(store: Store) -> None:
    await store.create(job())
    await store.delete("job_a")
    assert await store.find("job_a") is not None


async def test_a_key_is_free_again_when_its_job_is_forgotten(store: Store) -> None:
    log = await store.create(job("a", key="k"))
    await log.append(await log.claim(), Failed(CANCEL))
    await store.delete("job_a")
    assert (await store.create(job("b", key="k"))).job.job_id == "job_b"


async def test_a_refusal_for_want_of_room_says_when_some_is_free(
    store: Store, autojump_clock: MockClock
) -> None:
    for name in "abcde":
        await end(store, name, keep_s=7)
        await trio.sleep(1)
    with pytest.raises(PenstockError) as caught:
        await store.create(job("f"))
    assert caught.value.retry_after_s == 2
