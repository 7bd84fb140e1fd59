"""What every ledger does: a contract, tried on each implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import ceil

import pytest
import trio
from trio.testing import MockClock

from penstock.access.ledger import Ledger
from penstock.access.meters import DAY_S
from penstock.access.tab import Budget, Shortage
from penstock.errors import UNAVAILABLE, PenstockError
from penstock.jobs.redis.ledger import RedisLedger
from penstock.requests import Limit
from tests.checkpoints import cancel_everywhere
from tests.redis_server import RedisServer

from .clocks import JumpingClock
from .ledgers import (
    LIMITS,
    NOON_S,
    PACE,
    QUOTA,
    REQUESTS,
    counts,
    memory_ledger,
    opened,
    redis_ledger,
    refused,
    terms,
)
from .stores import QUIET_S, STORES


@pytest.fixture(params=STORES)
async def ledger(
    request: pytest.FixtureRequest, autojump_clock: MockClock
) -> AsyncIterator[Ledger]:
    """At noon."""
    if request.param == "memory":
        yield memory_ledger()
        return
    redis: RedisServer = request.getfixturevalue("redis")
    autojump_clock.autojump_threshold = QUIET_S
    async with redis_ledger(redis, clock=JumpingClock()) as ledger:
        now_s = ledger._link.clock.now_s
        await trio.sleep(2 * DAY_S - (now_s - NOON_S) % DAY_S)
        yield ledger


async def test_a_tab_is_charged_to_all_of_its_limits_and_gives_back_what_it_has_not_used(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    tab = await opened(ledger, terms("a", *LIMITS), 5)
    assert await counts(ledger, *LIMITS) == [1, 5, 5]
    assert await ledger.extend(tab, 37) is None
    assert (tab.leased, tab.left) == (37, 32)
    assert await counts(ledger, *LIMITS) == [1, 37, 37]
    tab.used += 3
    await ledger.close(tab)
    assert await counts(ledger, *LIMITS) == [1, 8, 8]
    await ledger.close(tab)
    assert await counts(ledger, *LIMITS) == [1, 8, 8]
    assert await ledger.used("ben", QUOTA) == 0


@pytest.mark.parametrize("short", LIMITS)
async def test_what_one_limit_refuses_is_charged_to_none(
    autojump_clock: MockClock, ledger: Ledger, short: Limit
) -> None:
    roomy = [Limit(each.unit, 1000) for each in LIMITS if each is not short]
    await opened(ledger, terms("a", short), 80)
    if short is REQUESTS:
        await opened(ledger, terms("b", short), 80)
    told = await refused(ledger, terms("c", *roomy, short), 80)
    assert told.budget == Budget("ann", short)
    # Of 100 a day 20 are left, of 120 a minute 40, and of 2 requests none.
    expected_s = {REQUESTS: 30, QUOTA: NOON_S, PACE: 20}[short]
    assert ceil(told.wait_s) == expected_s
    assert await counts(ledger, *roomy) == [0, 0]


async def test_as_much_is_leased_as_there_is_and_asking_again_changes_nothing(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    tab = await opened(ledger, terms("a", QUOTA), 5)
    for _ in range(3):
        assert await ledger.extend(tab, 90) is None
        assert tab.leased == 90
    short = await ledger.extend(tab, 120)
    assert (tab.leased, short and short.budget) == (100, Budget("ann", QUOTA))
    short = await ledger.extend(tab, 120)
    assert (tab.leased, short and ceil(short.wait_s)) == (100, NOON_S)
    assert await ledger.used("ann", QUOTA) == 100


async def test_where_day_and_minute_are_both_used_up_the_day_is_told(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    day, minute = Limit("tokens_per_day", 50), Limit("tokens_per_minute", 50)
    tab = await opened(ledger, terms("a", day, minute), 50)
    short = await ledger.extend(tab, 51)
    assert short is not None
    assert short.budget == Budget("ann", day)


async def test_what_comes_back_by_the_minute_can_be_leased(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    tab = await opened(ledger, terms("a", PACE), 120)
    short = await ledger.extend(tab, 130)
    assert short is not None
    assert short.wait_s == pytest.approx(0.5, abs=0.1)
    await trio.sleep(5.1)
    assert await ledger.extend(tab, 130) is None
    tab.used = 130
    await ledger.close(tab)
    await trio.sleep(60)
    assert await counts(ledger, PACE) == [0]


async def test_midnight_begins_a_new_day_and_takes_nothing_back_of_the_old_one(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    yesterdays = await opened(ledger, terms("a", QUOTA), 60)
    both = await opened(ledger, terms("b", QUOTA), 10)
    await trio.sleep(NOON_S + 1)
    assert await counts(ledger, QUOTA) == [0]
    others = await opened(ledger, terms("c", QUOTA), 40)
    await ledger.extend(both, 30)
    assert await counts(ledger, QUOTA) == [60]
    yesterdays.used = 5
    await ledger.close(yesterdays)
    assert await counts(ledger, QUOTA) == [60]
    both.used = 4
    await ledger.close(both)
    assert await counts(ledger, QUOTA) == [40]
    await ledger.close(others)


async def test_what_is_forgone_was_never_there(autojump_clock: MockClock, ledger: Ledger) -> None:
    tab = await opened(ledger, terms("a", *LIMITS), 40)
    tab.forgone = True
    await ledger.close(tab)
    assert await counts(ledger, *LIMITS) == [0, 0, 0]


async def test_one_who_takes_over_goes_on_with_what_is_left_and_is_charged_nothing(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    before = await opened(ledger, terms("job", *LIMITS), 5)
    await ledger.extend(before, 37)
    before.used += 20
    # Three of its tokens were lost with it.
    after = await opened(ledger, terms("job", *LIMITS), 5 + 17, again=True)
    assert (after.leased, after.left) == (37, 15)
    assert await counts(ledger, *LIMITS) == [1, 37, 37]
    before.used += 12
    await ledger.close(before)
    with pytest.raises(PenstockError) as caught:
        await ledger.extend(before, 99)
    assert caught.value.kind is UNAVAILABLE
    assert await counts(ledger, *LIMITS) == [1, 37, 37]
    await ledger.extend(after, 60)
    after.used = 50
    await ledger.close(after)
    assert await counts(ledger, *LIMITS) == [1, 50, 50]
    with pytest.raises(PenstockError):
        await ledger.extend(before, 99)


async def test_one_who_takes_over_before_the_first_token_is_charged_nothing(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    await opened(ledger, terms("job", *LIMITS), 60)
    after = await opened(ledger, terms("job", *LIMITS), 60)
    assert await counts(ledger, *LIMITS) == [1, 60, 60]
    # Whether the first has generated anything is not known.
    after.forgone = True
    await ledger.close(after)
    assert await counts(ledger, *LIMITS) == [1, 60, 60]


async def test_one_who_goes_on_with_what_nobody_remembers_pays_for_what_follows(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    tab = await opened(ledger, terms("job", *LIMITS), 90, again=True)
    assert await counts(ledger, *LIMITS) == [0, 0, 0]
    await ledger.extend(tab, 120)
    tab.used = 95
    await ledger.close(tab)
    assert await counts(ledger, *LIMITS) == [0, 5, 5]


async def test_an_account_has_so_many_places(autojump_clock: MockClock, ledger: Ledger) -> None:
    one = await opened(ledger, terms("a", streams=3, places=2), 5)
    assert await ledger.places("ann") == 2
    assert await refused(ledger, terms("b", streams=3, places=2), 5) == Shortage(None, 0)
    third = await opened(ledger, terms("c", streams=3), 5)
    again = await opened(ledger, terms("a", streams=3, places=2), 5)
    assert await ledger.places("ann") == 3
    await opened(ledger, terms("d", account="ben", streams=1), 5)
    await ledger.close(one)
    assert await ledger.places("ann") == 3
    await ledger.close(again)
    await ledger.close(third)
    assert await ledger.places("ann") == 0
    assert await ledger.places("ben") == 1


async def test_wherever_one_leaves_nothing_stays_charged(
    autojump_clock: MockClock, ledger: Ledger
) -> None:
    async def scenario() -> None:
        tab = await ledger.open(terms("a", *LIMITS), 5)
        assert not isinstance(tab, Shortage)
        try:
            ledger.foresee(tab, 20)
            await ledger.extend(tab, 37)
        finally:
            tab.forgone = True
            with trio.CancelScope(shield=True):
                await ledger.close(tab)

    async def check(cut: bool) -> None:
        assert await counts(ledger, *LIMITS) == [0, 0, 0]
        assert await ledger.places("ann") == 0

    # In memory nothing waits, so that nothing can be cut short.
    cuts = await cancel_everywhere(scenario, check)
    assert (cuts > 0) == isinstance(ledger, RedisLedger)
