"""Clocks that are set, or stood still with their machine: nobody loses a lease by that."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.clock import Clock
from penstock.jobs.redis.store import RedisStore
from tests.redis_server import RedisServer

from .clocks import JumpingClock
from .stores import BOUNDS, DONE, QUIET_S, delta, job, opened

pytestmark = pytest.mark.heavy

LEASE_S = 10
SLOTS = 9
LONG_S = 300
"""Of a clock that jumps."""


def make(redis: RedisServer, clock: Clock) -> RedisStore:
    return RedisStore(parse_address(redis.url), BOUNDS, lease_s=LEASE_S, clock=clock)


async def test_the_first_answer_is_taken_for_the_middle_of_its_way(
    autojump_clock: MockClock,
) -> None:
    clock, asked_s = Clock(), trio.current_time()
    await trio.sleep(0.5)
    assert clock.learn(1000.0, asked_s) == 0
    assert clock.now_s == pytest.approx(1000.25)
    assert clock.local_s(1001.0) == pytest.approx(trio.current_time() + 0.75)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_a_slow_answer_moves_nothing_that_it_does_not_contradict(
    autojump_clock: MockClock, share: float
) -> None:
    """Wherever on its way the time was looked up."""
    clock = Clock()
    clock.learn(1000.0, trio.current_time())
    asked_s, true_s = trio.current_time(), clock.now_s
    await trio.sleep(30)
    assert clock.learn(true_s + share * 30, asked_s) == pytest.approx(0)
    assert clock.now_s == pytest.approx(true_s + 30)


@pytest.mark.parametrize("set_s", [-60.0, 60.0])
async def test_an_answer_corrects_what_it_contradicts(
    autojump_clock: MockClock, set_s: float
) -> None:
    clock = Clock()
    clock.learn(1000.0, trio.current_time())
    asked_s, true_s = trio.current_time(), clock.now_s + set_s
    await trio.sleep(0.5)
    assert clock.learn(true_s + 0.25, asked_s) == pytest.approx(60, abs=0.25)
    assert clock.now_s == pytest.approx(true_s + 0.5, abs=0.25)


@pytest.mark.parametrize("set_s", [-60.0, 60.0])
async def test_one_that_has_the_time_wrong_neither_loses_its_leases_nor_takes_any(
    redis: RedisServer, autojump_clock: MockClock, set_s: float
) -> None:
    """As a machine that was suspended has it, until it has heard from Redis again."""
    autojump_clock.autojump_threshold = QUIET_S
    wrong, right = make(redis, Clock()), make(redis, Clock())
    async with opened(wrong), opened(right):
        await trio.sleep(LEASE_S)
        for name, taker, other in (("a", wrong, right), ("b", right, wrong)):
            clock = wrong.link.clock
            clock.learn(clock.now_s + set_s, trio.current_time())
            await taker.offer(job(name))
            [taken] = await taker.take("default", 1, SLOTS)
            assert not await other.take("default", SLOTS, SLOTS)
            assert not await taker.take("default", SLOTS, SLOTS)
            await taken.log.append(taken.epoch, DONE)


@pytest.mark.parametrize("set_s", [-60.0, 60.0])
async def test_when_the_stores_clock_is_set_all_keep_what_they_have(
    redis: RedisServer,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    set_s: float,
) -> None:
    autojump_clock.autojump_threshold = QUIET_S
    clock, heirs = JumpingClock(), JumpingClock()
    heir = make(redis, heirs)
    async with opened(heir):
        worker = make(redis, clock)
        async with opened(worker):
            await worker.offer(job())
            [taken] = await worker.take("default", 1, SLOTS)
            await trio.sleep(LEASE_S)
            with caplog.at_level(logging.WARNING):
                clock.set_s = heirs.set_s = set_s
                for _ in range(LEASE_S):
                    assert not await heir.take("default", 1, SLOTS)
                    await trio.sleep(1)
            assert "a clock was set" in caplog.text
            await taken.log.append(taken.epoch, delta(1))
        await trio.sleep(2 * LEASE_S)
        assert len(await heir.take("default", 1, SLOTS)) == 1


async def test_one_for_whom_it_is_late_does_not_ask_without_pause_what_may_be_forgotten(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = QUIET_S
    store = make(redis, Clock())
    async with opened(store):
        log = await store.create(job(keep_s=9))
        await log.append(await log.claim(), DONE)
        before = _asked(redis)
        clock = store.link.clock
        clock.learn(clock.now_s + 60, trio.current_time())
        await store.delete("job_unknown")
        await trio.sleep(LEASE_S)
        assert _asked(redis) - before < 200


def _asked(redis: RedisServer) -> int:
    """Scripts that were run."""
    told = redis.ask("INFO", "commandstats").decode()
    return int(told.split("cmdstat_evalsha:calls=")[1].split(",")[0])


@pytest.mark.parametrize("comes_back", [True, False])
async def test_what_others_have_to_say_is_heard_when_the_stores_clock_was_set_back(
    durable_redis: RedisServer, autojump_clock: MockClock, comes_back: bool
) -> None:
    """Redis numbers it by that clock, once nothing was said for a while or all is lost."""
    redis = durable_redis
    autojump_clock.autojump_threshold = QUIET_S
    store = make(redis, JumpingClock())
    async with opened(store):
        heard = f"{{penstock}}:wake:{store.link.me}"
        redis.ask("XADD", heard, "99999999999999-0", "-", "work:0")
        with trio.fail_after(LONG_S):
            await store._watch.work.wait()
            store._watch.work = trio.Event()
            redis.ask("DEL", heard)
            if comes_back:
                redis.kill()
                await trio.to_thread.run_sync(redis.start)
            else:
                await trio.sleep(90)
            redis.ask("XADD", heard, "*", "-", "work:0")
            await store._watch.work.wait()
