"""What is left behind: by a writer that writes no more, and of a job whose data were deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from glide import Script
from trio.testing import MockClock

from penstock.errors import PenstockError
from penstock.events import Delta, Failed
from penstock.jobs.redis import scripts
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.commits import Commits
from penstock.jobs.redis.link import Argument, Link
from penstock.jobs.redis.log import RedisLog
from penstock.jobs.redis.snapshot import Snapshot
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.redis.watch import SYNC, RedisWatch
from penstock.jobs.store import LeaseLostError, Log
from tests.redis_server import RedisServer

from .clocks import JumpingClock
from .ledgers import redis_ledger, terms
from .stores import BOUNDS, CANCEL, DONE, QUIET_S, delta, job, opened, quiet

pytestmark = pytest.mark.heavy

PATIENCE_S = 5
JOB = "{penstock}:job:job_a"


def make(redis: RedisServer, clock: JumpingClock | None = None) -> RedisStore:
    return RedisStore(parse_address(redis.url), BOUNDS, clock=clock)


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


async def test_an_event_that_cannot_be_kept_is_a_fault_of_its_job_alone(store: RedisStore) -> None:
    """Half of a surrogate pair is no text that could be sent anywhere."""
    log, epoch = await taken(store)
    with pytest.raises(UnicodeEncodeError):
        await log.append(epoch, Delta("\ud800", (), 0))
    with trio.fail_after(PATIENCE_S):
        await log.append(epoch, Failed(CANCEL), urgent=True)
    assert (await log.state()).status == "cancelled"


class BusyLink(Link):
    """One on which all that was told of is news again when the answer is there."""

    watch: RedisWatch
    logs: Mapping[str, RedisLog]

    def __init__(self, redis: RedisServer) -> None:
        super().__init__(parse_address(redis.url), "me", lease_s=10)
        self.told: set[str] = set()

    async def call(self, script: Script, *given: Argument) -> Any:  # noqa: ANN401  # as the script
        answer = await super().call(script, *given)
        if script is scripts.SYNC:
            names = [str(each) for each in given[::3]]
            self.told.update(names)
            for name in names:
                self.watch.changed(self.logs[name])
        return answer


async def test_whatever_is_news_again_waits_for_its_turn(redis: RedisServer) -> None:
    link = BusyLink(redis)
    watch = RedisWatch(link, lambda held: None)
    seen = Snapshot(0, 0, 0, None, None, "0", None)
    commits = Commits(link, lambda held: None)
    made = [job(str(number)) for number in range(SYNC + 1)]
    logs = {
        each.job_id: RedisLog(
            each, seen, ahead=4, link=link, commits=commits, changed=watch.changed
        )
        for each in made
    }
    link.watch, link.logs = watch, logs
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await link.there.wait()
        for each in logs.values():
            watch.changed(each)
        nursery.start_soon(watch.tell)
        with trio.fail_after(PATIENCE_S):
            while len(link.told) < len(logs):  # noqa: ASYNC110  # a real server's pace
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
