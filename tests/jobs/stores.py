"""Stores to test, and what goes into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import TypeAlias

import trio
from trio.testing import wait_all_tasks_blocked

from penstock.errors import CANCELLED, PenstockError
from penstock.events import Delta, Event, Failed, Finished, Token, Usage
from penstock.jobs.job import Job, JobBounds, Order
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.store import Store
from penstock.requests import GenerateRequest

BOUNDS = JobBounds(window=4, wall_s=60, keep_s=10, resume_window_s=5, max_jobs=5, log_bytes=10_000)
MakeStore: TypeAlias = Callable[[JobBounds], Store]
STORES = ("memory", "redis")
"""Each implementation; the tests in `test_store` are what it must do."""

QUIET_S = 0.05
"""A Redis on this machine answers within a fraction of that, also where others work on it."""

DONE = Finished("stop", Usage(3, 3), 3)
CANCEL = PenstockError(CANCELLED, "cancelled by the client")
GONE = Failed(CANCEL)


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    """A store that runs, and is there."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        if isinstance(store, RedisStore):
            await store.link.there.wait()
        yield store
        nursery.cancel_scope.cancel()


async def quiet(store: Store) -> None:
    """Until everybody waits, and nothing is on its way any more."""
    await wait_all_tasks_blocked(QUIET_S if isinstance(store, RedisStore) else 0)


def delta(number: int) -> Delta:
    """With a token that has no text of its own."""
    return Delta(f" {number}", (Token(100 + number), Token(200 + number)), 2 * number)


def deltas(*numbers: int) -> list[Event]:
    return [delta(number) for number in numbers]


def job(
    name: str = "a",
    *,
    owner: str = "",
    key: str | None = None,
    window: int | None = None,
    unread_s: float = inf,
    keep_s: float = 10,
    reserved: int = 100,
    listed: bool = True,
    answers: int = 1,
) -> Job:
    order = Order(
        request=GenerateRequest(prompt="x", n=answers),
        model="default",
        keep_s=keep_s,
        window=window,
        unread_s=unread_s,
        owner=owner,
        key=key,
        listed=listed,
    )
    return Job(f"job_{name}", order, reserved)
