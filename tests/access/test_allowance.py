"""What a request may spend: all that its key allows, paced by the minute, ended by the day."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from penstock.access.allowance import BLOCK, EVERYBODY, Allowance
from penstock.access.memory_ledger import MemoryLedger
from penstock.access.meters import DAY_S
from penstock.errors import OVERLOADED, QUOTA_EXCEEDED, PenstockError
from penstock.requests import Limit

NOON = 20_000 * DAY_S + DAY_S // 2
REQUESTS = Limit("requests_per_minute", 2)
PACE = Limit("tokens_per_minute", 120)
QUOTA = Limit("tokens_per_day", 100)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(lambda: NOON + trio.current_time())


async def refused(ask: Callable[[], Awaitable[None]]) -> PenstockError:
    with pytest.raises(PenstockError) as caught:
        await ask()
    return caught.value


async def test_without_limits_everything_is_allowed(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    async with Allowance(ledger, "a", ()) as allowance:
        await allowance.begin(10**9)
        for _ in range(1000):
            await allowance.spend()


@pytest.mark.parametrize("prompt", [0, 1, BLOCK, 40, 99])
async def test_a_quota_is_spent_to_the_last_token_and_no_further(
    autojump_clock: MockClock, ledger: MemoryLedger, prompt: int
) -> None:
    async with Allowance(ledger, "a", (QUOTA,)) as allowance:
        await allowance.begin(prompt)
        for _ in range(100 - prompt):
            await allowance.spend()
        error = await refused(allowance.spend)
    assert (error.kind, error.retry_after_s) == (QUOTA_EXCEEDED, DAY_S // 2)
    assert await ledger.used("a", QUOTA) == 100
    assert await ledger.used("b", QUOTA) == 0


async def test_two_that_share_a_quota_spend_it_exactly(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    """One may be refused while the other holds a part of a block, which is used or given back."""
    spent = 0
    async with Allowance(ledger, "a", (QUOTA,)) as one, Allowance(ledger, "a", (QUOTA,)) as other:
        await one.begin(0)
        await other.begin(0)
        for _ in range(36):
            await one.spend()
            await other.spend()
            spent += 2
        for allowance in (one, other):
            while allowance.left:
                await allowance.spend()
                spent += 1
            await refused(allowance.spend)
    assert spent == await ledger.used("a", QUOTA) == 100


async def test_what_was_leased_and_not_spent_is_given_back(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    with trio.CancelScope() as scope:
        async with Allowance(ledger, "a", (PACE, QUOTA)) as allowance:
            await allowance.begin(5)
            for _ in range(3):
                await allowance.spend()
            assert await ledger.used("a", QUOTA) == 5 + BLOCK
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert await ledger.used("a", QUOTA) == 8
    assert await ledger.used("a", PACE) == 8


async def test_a_prompt_beyond_what_is_left_is_refused_and_costs_nothing(
    autojump_clock: MockClock,
    ledger: MemoryLedger,
) -> None:
    async with Allowance(ledger, "a", (QUOTA,)) as allowance:
        error = await refused(lambda: allowance.begin(101))
    assert (error.kind, error.retry_after_s) == (QUOTA_EXCEEDED, DAY_S // 2)
    assert await ledger.used("a", QUOTA) == 0


async def test_requests_beyond_the_minutes_number_are_refused_until_there_is_one_more(
    autojump_clock: MockClock,
    ledger: MemoryLedger,
) -> None:
    await Allowance(ledger, "a", (REQUESTS,)).begin(1)
    await Allowance(ledger, "a", (REQUESTS,)).begin(1)
    allowance = Allowance(ledger, "a", (REQUESTS,))
    error = await refused(lambda: allowance.begin(1))
    assert (error.kind, error.retry_after_s) == (OVERLOADED, 30)
    await trio.sleep(30)
    await allowance.begin(1)


async def test_a_stream_that_is_ahead_of_its_pace_waits_and_goes_on(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    times = []
    async with Allowance(ledger, "a", (PACE,)) as allowance:
        await allowance.begin(20)
        for _ in range(160):
            await allowance.spend()
            times.append(trio.current_time())
    assert times[99] == 0
    assert times[100] == pytest.approx(0.5)
    assert times[-1] == pytest.approx(30, abs=0.6)


async def test_a_prompt_that_no_minute_can_hold_is_refused_for_good(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    allowance = Allowance(ledger, "a", (PACE, QUOTA))
    error = await refused(lambda: allowance.begin(121))
    assert (error.kind.status, error.param) == (400, "prompt")
    await allowance.begin(100 - 1)
    await Allowance(ledger, "b", (PACE,)).begin(100)
    other = Allowance(ledger, "b", (PACE,))
    error = await refused(lambda: other.begin(100))
    assert (error.kind, error.retry_after_s) == (OVERLOADED, 40)
    assert await ledger.used("b", PACE) == 100


async def test_who_is_refused_for_one_limit_is_charged_for_none(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    async with Allowance(ledger, "a", (REQUESTS, QUOTA, PACE)) as allowance:
        await refused(lambda: allowance.begin(101))
    for limit in (REQUESTS, QUOTA, PACE):
        assert await ledger.used("a", limit) == 0


async def test_what_is_forgone_is_charged_nowhere(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    async with Allowance(ledger, "a", (REQUESTS, QUOTA)) as allowance:
        await allowance.begin(40)
        assert await ledger.used("a", REQUESTS) == 1
        allowance.forgo()
    assert (await ledger.used("a", REQUESTS), await ledger.used("a", QUOTA)) == (0, 0)


async def test_an_account_has_so_many_streams_whatever_its_models(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    async with Allowance(ledger, "a", (), streams=3, places=2):
        pass
    async with Allowance(ledger, "a", (), streams=3, places=2) as one:
        await one.begin(5)
        assert await ledger.places("a") == 2
        async with Allowance(ledger, "a", (), streams=3, places=2) as other:
            error = await refused(lambda: other.begin(5))
            assert (error.kind, "too many requests" in error.message) == (OVERLOADED, True)
        async with Allowance(ledger, "a", (), streams=3) as third:
            await third.begin(5)
            assert await ledger.places("a") == 3
    assert await ledger.places("a") == 0


async def test_what_all_share_is_spent_by_each_and_told_as_the_servers(
    autojump_clock: MockClock, ledger: MemoryLedger
) -> None:
    async with Allowance(ledger, "a", (), (PACE,)) as one:
        await one.begin(100)
    async with Allowance(ledger, "b", (QUOTA,), (PACE,)) as other:
        error = await refused(lambda: other.begin(30))
        assert (error.kind, "the server's tokens a minute" in error.message) == (OVERLOADED, True)
        assert error.retry_after_s == 5
        await other.begin(20)
    assert await ledger.used("b", QUOTA) == 20
    assert await ledger.used(EVERYBODY, PACE) == 120
