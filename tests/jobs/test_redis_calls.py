"""Who is called when there is something to do: nobody waits for a look now and then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from penstock.errors import PenstockError
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from tests.redis_server import RedisServer

from .stores import BOUNDS, CANCEL, QUIET_S, job, opened

SLOTS = 2


def make(redis: RedisServer, *, line: int = 9) -> RedisStore:
    return RedisStore(parse_address(redis.url), BOUNDS, line=line)


async def take(store: RedisStore, free: int) -> list[str]:
    taken = await store.take("default", free, SLOTS)
    return [each.log.job.job_id for each in taken]


@dataclass(frozen=True, slots=True)
class House:
    """An edge and two workers on one Redis."""

    edge: RedisStore
    first: RedisStore
    second: RedisStore


@asynccontextmanager
async def opened_house(redis: RedisServer, clock: MockClock) -> AsyncIterator[House]:
    clock.autojump_threshold = 10 * QUIET_S
    async with AsyncExitStack() as stack:
        stores = [make(redis) for _ in range(3)]
        for store in stores:
            await stack.enter_async_context(opened(store))
        yield House(*stores)


async def called_by(act: Callable[..., Awaitable[Any]], *given: object, who: RedisStore) -> bool:
    """Whether `who` is called at once by what `act` does."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act, *given)
        began_s = trio.current_time()
        await who.wait_work()
    return trio.current_time() == began_s


async def test_one_without_room_for_the_first_in_line_is_called_when_that_has_left(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    async with opened_house(redis, autojump_clock) as house:
        assert not await take(house.first, 1)
        assert await called_by(house.edge.offer, job("wide", answers=2), who=house.first)
        assert not await take(house.first, 1)
        assert await called_by(house.edge.offer, job("b"), who=house.first)
        assert not await take(house.first, 1)
        assert await called_by(take, house.second, 2, who=house.first)
        assert await take(house.first, 1) == ["job_b"]


async def test_or_when_that_was_cancelled(redis: RedisServer, autojump_clock: MockClock) -> None:
    async with opened_house(redis, autojump_clock) as house:
        assert not await take(house.first, 1)
        wide = await house.edge.offer(job("wide", answers=2))
        await house.first.wait_work()
        await house.edge.offer(job("b"))
        assert not await take(house.first, 1)
        assert await called_by(wide.refuse, CANCEL, who=house.first)
        assert await take(house.first, 1) == ["job_b"]


async def test_one_that_is_called_and_has_no_room_any_more_hands_that_on(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    async with opened_house(redis, autojump_clock) as house:
        assert not await take(house.first, 2)
        assert not await take(house.second, 1)
        assert await called_by(house.edge.offer, job("a"), who=house.first)
        assert await called_by(take, house.first, 0, who=house.second)
        assert await take(house.second, 1) == ["job_a"]


async def test_one_that_gives_back_calls_another(
    redis: RedisServer, autojump_clock: MockClock
) -> None:
    async with opened_house(redis, autojump_clock) as house:
        await house.edge.offer(job("a"))
        [taken] = await house.first.take("default", 2, SLOTS)
        assert not await take(house.second, 1)
        give_back = house.first.give_back
        assert await called_by(give_back, taken.log, taken.epoch, who=house.second)
        assert await take(house.second, 1) == ["job_a"]


async def test_room_that_is_too_small_for_the_first_in_line_makes_no_line_longer(
    redis: RedisServer,
) -> None:
    edge, worker = make(redis, line=1), make(redis)
    async with opened(edge), opened(worker):
        await edge.offer(job("wide", answers=2))
        assert not await take(worker, 1)
        with pytest.raises(PenstockError, match="wait"):
            await edge.offer(job("b"))
