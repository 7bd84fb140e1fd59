"""One quota over several processes, which die, over a Redis that goes away."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from penstock.access.allowance import BLOCK, LOW, Allowance
from penstock.access.tab import Shortage, Tab
from penstock.errors import QUOTA_EXCEEDED, PenstockError
from penstock.jobs.redis.ledger import RedisLedger
from penstock.requests import Limit
from tests.redis_server import RedisServer

from .ledgers import counts, opened, redis_ledger, refused, terms
from .stores import QUIET_S

pytestmark = pytest.mark.heavy

PATIENCE_S = 20
QUOTA = Limit("tokens_per_day", 1000)
STREAMS = 4


async def ended(ledger: RedisLedger) -> None:
    """Until nothing is on its way any more."""
    await wait_all_tasks_blocked(QUIET_S)
    while "0 to be closed" not in repr(ledger):
        await wait_all_tasks_blocked(QUIET_S)


async def test_streams_of_three_processes_spend_a_quota_to_its_last_token(
    redis: RedisServer,
) -> None:
    spent = 0

    async def spend_all(allowance: Allowance) -> None:
        nonlocal spent
        while True:
            await allowance.spend()
            spent += 1
            await trio.lowlevel.checkpoint()

    async def stream(ledger: RedisLedger) -> None:
        nonlocal spent
        async with Allowance(ledger, "ann", (QUOTA,)) as allowance:
            await allowance.begin(3)
            spent += 3
            with pytest.raises(PenstockError) as caught:
                await spend_all(allowance)
            assert caught.value.kind is QUOTA_EXCEEDED

    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(redis_ledger(redis)) for _ in range(3)]
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for ledger in ledgers * STREAMS:
                    nursery.start_soon(stream, ledger)
        # Of those that came last some were refused while others held tokens, which came back.
        assert [spent] == await counts(ledgers[0], QUOTA)
        async with Allowance(ledgers[1], "ann", (QUOTA,)) as last:
            await last.begin(0)
            for _ in range(1000 - spent):
                await last.spend()
            with pytest.raises(PenstockError):
                await last.spend()
        assert await counts(ledgers[0], QUOTA) == [1000]


async def test_the_next_block_is_there_before_this_one_is_used_up(redis: RedisServer) -> None:
    async with redis_ledger(redis) as ledger, Allowance(ledger, "ann", (QUOTA,)) as allowance:
        await allowance.begin(7)
        await ended(ledger)
        assert allowance.left == BLOCK
        for _ in range(10):
            for _ in range(BLOCK - LOW):
                await allowance.spend()
            assert allowance.left == LOW
            await ended(ledger)
            assert allowance.left == LOW + BLOCK
            for _ in range(BLOCK - LOW):
                await allowance.spend()


@pytest.mark.parametrize("choices", [1, 3])
async def test_one_that_spends_nothing_gives_its_block_back_and_keeps_its_places(
    redis: RedisServer, choices: int
) -> None:
    async with redis_ledger(redis, lease_s=1) as ledger:
        allowance = Allowance(ledger, "ann", (QUOTA,), streams=3, places=choices)
        await allowance.begin(5)
        for number in range(4):
            for _ in range(BLOCK):
                await allowance.spend()
            await ended(ledger)
            spent = 5 + number * (BLOCK + choices) + BLOCK
            assert await counts(ledger, QUOTA) > [spent]
            with trio.fail_after(PATIENCE_S):
                while await counts(ledger, QUOTA) != [spent]:  # noqa: ASYNC110  # Redis's own time
                    await trio.sleep(0.01)
            assert allowance.left == 0
            assert await ledger.places("ann") == choices
            async with trio.open_nursery() as nursery:
                for _ in range(choices):
                    nursery.start_soon(allowance.spend)
        await allowance.__aexit__()
        assert await counts(ledger, QUOTA) == [5 + 4 * (BLOCK + choices)]
        assert await ledger.places("ann") == 0


async def test_places_of_one_that_died_lapse_and_those_of_the_living_do_not(
    redis: RedisServer,
) -> None:
    async with redis_ledger(redis, lease_s=0.5) as living:
        await opened(living, terms("here", streams=2), 5)
        async with redis_ledger(redis, lease_s=0.5) as dead:
            await opened(dead, terms("there", streams=2), 5)
        assert await refused(living, terms("more", streams=2), 5) == Shortage(None, 0)
        with trio.fail_after(PATIENCE_S):
            while await living.places("ann") == 2:  # noqa: ASYNC110  # Redis's own time passes
                await trio.sleep(0.01)
        await opened(living, terms("more", streams=2), 5)
        await refused(living, terms("yet more", streams=2), 5)


async def test_what_the_dead_had_leased_is_gone_on_with_and_charged_once(
    redis: RedisServer,
) -> None:
    async with redis_ledger(redis) as first:
        lost = Allowance(first, "ann", (QUOTA,), job="job")
        await lost.begin(10)
        for _ in range(50):
            await lost.spend()
        await ended(first)
        assert (await counts(first, QUOTA))[0] > 60
    async with redis_ledger(redis) as second:
        async with Allowance(second, "ann", (QUOTA,), job="job") as successor:
            # Its log has the prompt and 48 tokens.
            await successor.begin(58, again=True)
            for _ in range(42):
                await successor.spend()
        assert await counts(second, QUOTA) == [100]


@pytest.mark.parametrize("first", ["closed", "taken"])
async def test_a_job_that_is_given_back_is_charged_once(redis: RedisServer, first: str) -> None:
    """Whoever comes first, the one that takes it or the one that leaves it."""
    async with redis_ledger(redis) as here, redis_ledger(redis) as there:
        giver = Allowance(here, "ann", (QUOTA,), job="job")
        await giver.begin(10)
        for _ in range(20):
            await giver.spend()
        giver.moved = True
        if first == "closed":
            await giver.__aexit__()
            assert await counts(here, QUOTA) == [30]
        async with Allowance(there, "ann", (QUOTA,), job="job") as taker:
            await taker.begin(27, again=True)
            for _ in range(13):
                await taker.spend()
            await giver.__aexit__()
        assert await counts(here, QUOTA) == [40]


async def test_while_redis_is_away_nobody_new_comes_in_and_others_spend_what_they_have(
    durable_redis: RedisServer,
) -> None:
    async with redis_ledger(durable_redis) as ledger:
        allowance = Allowance(ledger, "ann", (QUOTA,))
        await allowance.begin(5)
        other = Allowance(ledger, "ann", (QUOTA,))
        await other.begin(5)
        await ended(ledger)
        durable_redis.kill()
        with trio.fail_after(PATIENCE_S):
            with pytest.raises(PenstockError) as caught:
                await Allowance(ledger, "ann", (QUOTA,)).begin(5)
            assert (caught.value.kind.code, caught.value.kind.status) == ("unavailable", 429)
            assert caught.value.retry_after_s
            for _ in range(BLOCK):
                await allowance.spend()
            await other.__aexit__()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(allowance.spend)
                await wait_all_tasks_blocked(QUIET_S)
                assert allowance.left == 0
                await trio.to_thread.run_sync(durable_redis.start)
            await allowance.__aexit__()
            await ended(ledger)
        assert await counts(ledger, QUOTA) == [5 + BLOCK + 1 + 5]


async def test_an_answer_that_is_lost_charges_nobody(redis: RedisServer) -> None:
    losing = False
    async with redis_ledger(redis, loses=lambda: losing) as ledger:
        losing = True
        with pytest.raises(PenstockError):
            await Allowance(ledger, "ann", (QUOTA,), streams=2).begin(5)
        losing = False
        with trio.fail_after(PATIENCE_S):
            await ended(ledger)
        assert await counts(ledger, QUOTA) == [0]
        assert await ledger.places("ann") == 0


async def test_nothing_is_left_in_redis_of_tabs_that_were_closed(redis: RedisServer) -> None:
    async with redis_ledger(redis) as ledger:
        for number in range(50):
            tab = await opened(ledger, terms(str(number), QUOTA, streams=9), 5)
            await ledger.close(tab)
        left = redis.ask("KEYS", "*")
    assert left.startswith(b"*2\r\n"), left  # the day's count, and that this process is alive


class Life:
    """Random requests on several processes that die, with answers that get lost.

    What was used is known here: what readers had, and of jobs what their logs have.
    """

    def __init__(self, redis: RedisServer, seed: int) -> None:
        self.random = Random(seed)
        self.redis = redis
        self.limit = Limit("tokens_per_day", self.random.choice([50, 300, 3000]))
        self.used = 0
        self.stranded = 0
        """Leased by plain requests that died, and not used."""
        self.jobs: dict[str, int] = {}
        """Those whose process died, and the tokens in their logs."""

    async def run(self) -> None:
        for _ in range(3):
            async with redis_ledger(self.redis, loses=self._loses) as ledger:
                tabs: list[Tab] = []
                for _ in range(40):
                    await self._step(ledger, tabs)
                await ended(ledger)
                for tab in tabs:
                    self._die(tab)
        async with redis_ledger(self.redis) as ledger:
            for name, had in self.jobs.items():
                tab = await opened(ledger, terms(name, self.limit), had, again=True)
                await ledger.close(tab)
            assert await counts(ledger, self.limit) == [self.used + self.stranded]

    def _loses(self) -> bool:
        return self.random.random() < 0.1

    async def _step(self, ledger: RedisLedger, tabs: list[Tab]) -> None:
        with suppress(PenstockError):
            match self.random.choice(["open", "open", "spend", "spend", "spend", "rest", "close"]):
                case "open":
                    await self._open(ledger, tabs)
                case "spend" if tabs:
                    await self._spend(ledger, self.random.choice(tabs))
                case "rest" if tabs:
                    tab = self.random.choice(tabs)
                    # What is leased after that would be stranded, or a successor's, unseen by us.
                    await ended(ledger)
                    for _ in range(2):  # two signs of life without a token between them
                        await ledger._let_rest(tab)
                case "close" if tabs:
                    tab = tabs.pop(self.random.randrange(len(tabs)))
                    await ledger.close(tab)
        assert self.used <= self.limit.amount
        assert await self._counted(ledger) <= self.limit.amount

    async def _counted(self, ledger: RedisLedger) -> int:
        with suppress(PenstockError):
            return await ledger.used("ann", self.limit)
        return 0

    async def _open(self, ledger: RedisLedger, tabs: list[Tab]) -> None:
        prompt = self.random.randrange(20)
        name = f"{self.random.choice(['job', 'plain'])}-{self.random.random()}"
        again = bool(self.jobs) and self.random.random() < 0.5
        if again:
            name = self.random.choice(sorted(self.jobs))
            prompt = self.jobs[name]
        tab = await ledger.open(terms(name, self.limit), prompt, again=again)
        if isinstance(tab, Tab):
            tab.used = prompt
            self.used += 0 if again else prompt
            self.jobs.pop(name, None)
            tabs.append(tab)

    async def _spend(self, ledger: RedisLedger, tab: Tab) -> None:
        if not tab.left or self.random.random() < 0.5:
            await ledger.extend(tab, tab.used + self.random.randrange(40))
        else:
            ledger.foresee(tab, tab.used + self.random.randrange(40))
        spent = self.random.randint(0, max(tab.left, 0))
        tab.used += spent
        self.used += spent

    def _die(self, tab: Tab) -> None:
        name = tab.terms.name
        if name.startswith("job"):
            lost = self.random.randint(0, min(3, tab.used))
            self.jobs[name] = tab.used - lost
            self.used -= lost
        else:
            self.stranded += tab.left


@pytest.mark.parametrize("seed", range(12))
async def test_whoever_dies_when_nothing_is_overspent_and_all_is_given_back(
    redis: RedisServer, seed: int
) -> None:
    with trio.fail_after(PATIENCE_S):
        await Life(redis, seed).run()
