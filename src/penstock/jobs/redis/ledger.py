"""Use that several processes count in one Redis.

A request spends what its tab has leased and asks nobody; the next block is fetched meanwhile. What
is leased is counted, and stays so when its process dies: how much of it was used nobody knows but
for jobs, whose logs say so, and there whoever takes one over goes on with what its tab has left.
Places lapse without signs of life.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import trio

from penstock.access.tab import Budget, Shortage, Tab, Terms, lost
from penstock.jobs.redis import scripts
from penstock.jobs.redis.link import Argument, AwayError, Link
from penstock.requests import Limit

BEATS = 5
"""Signs of life within the time after which places lapse."""
BATCH = 256
"""Tabs in one script: Redis serves nobody else meanwhile."""


class RedisLedger:
    """See `Ledger`. `link` is run by whoever has it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._marks = count()
        self._open: dict[Tab, None] = {}
        self._low: dict[Tab, int] = {}
        self._owed: list[Sequence[Argument]] = []
        self._more = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<RedisLedger {len(self._open)} tabs, {len(self._owed)} to be closed>"

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for task in (self._hold, self._top_up, self._settle):
                nursery.start_soon(task)

    async def open(self, terms: Terms, tokens: int, *, again: bool = False) -> Tab | Shortage:
        link = self._link
        tab = Tab(terms, f"{link.me}:{next(self._marks)}", tokens)
        about = (terms.name, tab.mark, terms.account, terms.streams, terms.places)
        told = (str(link.lease_s), *about, tokens, int(again), *_limits(terms))
        try:
            answer = await link.call(scripts.TAB_OPEN, link.now, link.lapsed, *told)
        except AwayError:
            # It may be open for all that.
            tab.forgone = True
            self._owe(_closing(tab, kept=False))
            raise
        if short := _learn(tab, answer):
            return short
        self._open[tab] = None
        return tab

    async def extend(self, tab: Tab, total: int) -> Shortage | None:
        told = _asking(tab, total)
        (answer,) = await self._link.insist(scripts.TAB_EXTEND, self._link.now, *told)
        if answer[0] < 0:
            raise lost()
        return _learn(tab, answer)

    def foresee(self, tab: Tab, total: int) -> None:
        self._low[tab] = total
        self._more.unpark_all()

    async def close(self, tab: Tab, *, kept: bool = False) -> None:
        self._open.pop(tab, None)
        self._low.pop(tab, None)
        told = _closing(tab, kept=kept)
        try:
            await self._link.call(scripts.TAB_CLOSE, self._link.now, *told)
        except AwayError:
            self._owe(told)

    async def used(self, account: str, limit: Limit) -> int:
        used, _ = await self._look(Budget(account, limit))
        return round(float(used))

    async def places(self, account: str) -> int:
        _, places = await self._look(Budget(account, Limit("tokens_per_day", 0)))
        return int(places)

    async def _look(self, budget: Budget) -> Sequence[Any]:
        link = self._link
        found: Sequence[Any] = await link.call(
            scripts.TAB_USED, link.now, link.lapsed, *_spelled(budget)
        )
        return found

    async def _hold(self) -> None:
        """Say that tabs are still open, at once when Redis is back."""
        while True:
            await self._link.there.wait()
            with suppress(AwayError):
                tabs = list(self._open)
                for at in range(0, len(tabs), BATCH):
                    await self._hold_on(tabs[at : at + BATCH])
            with trio.move_on_after(self._link.lease_s / BEATS):
                await self._link.lost.wait()

    async def _hold_on(self, tabs: Sequence[Tab]) -> None:
        told: list[Argument] = []
        for tab in tabs:
            told += [tab.terms.name, tab.mark, tab.terms.account, tab.terms.places]
        link = self._link
        await link.call(scripts.TAB_HOLD, link.now, str(link.lease_s), *told)

    async def _top_up(self) -> None:
        """Extend those that are low. While one batch is under way the next one gathers."""
        while True:
            while not self._low:
                await self._more.park()
            batch = [self._low.popitem() for _ in range(min(len(self._low), BATCH))]
            told = [word for tab, total in batch for word in _asking(tab, total)]
            answers = await self._link.insist(scripts.TAB_EXTEND, self._link.now, *told)
            for (tab, _), answer in zip(batch, answers, strict=True):
                _learn(tab, answer)

    def _owe(self, closing: Sequence[Argument]) -> None:
        self._owed.append(closing)
        self._more.unpark_all()

    async def _settle(self) -> None:
        """Close what could not be closed while Redis was away."""
        while True:
            while not self._owed:
                await self._more.park()
            await self._link.insist(scripts.TAB_CLOSE, self._link.now, *self._owed[0])
            del self._owed[0]


def _learn(tab: Tab, answer: Sequence[Any]) -> Shortage | None:
    """What `tab_open` and `tab_extend` say; answers may overtake each other."""
    leased, number, wait_s = answer
    tab.leased = max(tab.leased, int(leased))
    if leased >= 0 and not number:
        return None
    return Shortage(tab.terms.budgets[number - 1] if number else None, float(wait_s))


def _asking(tab: Tab, total: int) -> list[Argument]:
    return [tab.terms.name, tab.mark, total, *_limits(tab.terms)]


def _closing(tab: Tab, *, kept: bool) -> list[Argument]:
    terms = tab.terms
    about: list[Argument] = [terms.name, tab.mark, terms.account, terms.places]
    return [*about, tab.used, int(tab.forgone), int(kept), *_limits(terms)]


def _limits(terms: Terms) -> list[Argument]:
    """Their number, and each."""
    return [len(terms.budgets), *(word for budget in terms.budgets for word in _spelled(budget))]


def _spelled(budget: Budget) -> tuple[Argument, ...]:
    return budget.account, budget.limit.unit, budget.limit.amount
