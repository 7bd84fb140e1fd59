"""Ledgers to test. Each of those in Redis stands for a process."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import trio
from glide import Script

from penstock.access.ledger import Ledger
from penstock.access.memory_ledger import MemoryLedger
from penstock.access.meters import DAY_S
from penstock.access.tab import Budget, Shortage, Tab, Terms
from penstock.jobs.redis.absence import AwayError
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.clock import Clock
from penstock.jobs.redis.ledger import RedisLedger
from penstock.jobs.redis.link import Argument, Link
from penstock.requests import Limit
from tests.redis_server import RedisServer

NOON_S = DAY_S // 2
LONG_S = 1e6
"""A lease under which nothing happens while a test jumps from day to day."""

REQUESTS = Limit("requests_per_minute", 2)
PACE = Limit("tokens_per_minute", 120)
QUOTA = Limit("tokens_per_day", 100)
LIMITS = (REQUESTS, QUOTA, PACE)

Open: TypeAlias = Callable[..., Awaitable[Tab]]


class LossyLink(Link):
    """A link that loses an answer whenever `loses` says so: what was asked for is done."""

    loses: Callable[[], bool] = staticmethod(lambda: False)

    async def call(self, script: Script, *given: Argument) -> Any:  # noqa: ANN401  # as the script
        answer = await super().call(script, *given)
        if self.loses():
            raise AwayError
        return answer


@asynccontextmanager
async def redis_ledger(
    redis: RedisServer,
    *,
    lease_s: float = LONG_S,
    loses: Callable[[], bool] = lambda: False,
    clock: Clock | None = None,
) -> AsyncIterator[RedisLedger]:
    """One process. Its death is the end of the block: what it has not closed stays as it is."""
    link = LossyLink(parse_address(redis.url), secrets.token_hex(4), lease_s=lease_s, clock=clock)
    link.loses = loses
    ledger = RedisLedger(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        nursery.start_soon(ledger.run)
        await link.there.wait()
        yield ledger
        nursery.cancel_scope.cancel()


def memory_ledger() -> MemoryLedger:
    return MemoryLedger(lambda: 20_000 * DAY_S + NOON_S + trio.current_time())


def terms(
    name: str, *limits: Limit, account: str = "ann", streams: int = 0, places: int = 1
) -> Terms:
    budgets = tuple(Budget(account, limit) for limit in limits)
    return Terms(name=name, account=account, budgets=budgets, streams=streams, places=places)


async def opened(ledger: Ledger, asked: Terms, tokens: int, *, again: bool = False) -> Tab:
    """A tab that has had its first `tokens`."""
    tab = await ledger.open(asked, tokens, again=again)
    assert isinstance(tab, Tab)
    tab.used = tokens
    return tab


async def refused(ledger: Ledger, asked: Terms, tokens: int) -> Shortage:
    short = await ledger.open(asked, tokens)
    assert isinstance(short, Shortage)
    return short


async def counts(ledger: Ledger, *limits: Limit) -> list[int]:
    return [await ledger.used("ann", limit) for limit in limits]
