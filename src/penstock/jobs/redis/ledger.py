"""Use that several processes count in one Redis.

A request spends what its tab has leased and asks nobody; the next block is fetched meanwhile. What
is leased is counted, and stays so when its process dies: how much of it was used nobody knows but
for jobs, whose logs say so, and there whoever takes one over goes on with what its tab has left.
One that spends nothing for a while rests: it gives back what it has left, and is opened again when
it spends. Places lapse without signs of life.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count, islice
from typing import Any

import trio

from penstock.access.tab import Budget, Shortage, Tab, Terms, lost
from penstock.jobs.redis import scripts
from penstock.jobs.redis.absence import AwayError
from penstock.jobs.redis.link import Argument, Link
from penstock.requests import Limit

BEATS = 5
"""Signs of life within the time after which places lapse."""
BATCH = 256
"""Tabs in one script: Redis serves nobody else meanwhile."""
AT_END, KEPT, RESTING = "ended", "kept", "resting"
"""Why a tab is closed. One that is kept is another's to open, one that rests keeps its places."""


class RedisLedger:
    """See `Ledger`. `link` is run by whoever has it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._marks = count()
        self._open: dict[Tab, int] = {}
        """With what each had used at the last sign of life."""
        self._resting: dict[Tab, trio.Lock] = {}
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
        link, tab = self._link, Tab(terms, self._new_mark(), tokens)
        if not link.there.is_set():
            raise AwayError  # nothing is asked, so that nothing is to be taken back
        told = (str(link.lease_s), *_opening(tab, tab.mark, tokens, again=again))
        try:
            answer = await link.call(scripts.TAB_OPEN, link.lapsed, *told)
        except AwayError:
            # It may be open for all that.
            tab.forgone = True
            self._owe(_closing(tab, AT_END))
            raise
        if short := _learn(tab, answer):
            return short
        self._open[tab] = -1
        return tab

    async def extend(self, tab: Tab, total: int) -> Shortage | None:
        if lock := self._resting.get(tab):
            await self._rouse(tab, lock)
        mark, told = tab.mark, _asking(tab, total)
        (answer,) = await self._link.insist(scripts.TAB_EXTEND, *told)
        if not self._is_current(tab, mark):
            return None
        if answer[0] < 0:
            raise lost()
        return _learn(tab, answer)

    def foresee(self, tab: Tab, total: int) -> None:
        self._low[tab] = total
        self._more.unpark_all()

    async def close(self, tab: Tab, *, kept: bool = False) -> None:
        self._open.pop(tab, None)
        self._low.pop(tab, None)
        self._resting.pop(tab, None)
        told = _closing(tab, KEPT if kept else AT_END)
        try:
            await self._link.call(scripts.TAB_CLOSE, *told)
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
        found: Sequence[Any] = await link.call(scripts.TAB_USED, link.lapsed, *_spelled(budget))
        return found

    async def _hold(self) -> None:
        """Say that tabs are still open, at once when Redis is back."""
        while True:
            await self._link.there.wait()
            with suppress(AwayError):
                tabs = list(self._open)
                for at in range(0, len(tabs), BATCH):
                    await self._hold_on(tabs[at : at + BATCH])
                for tab in tabs:
                    if tab in self._open:
                        await self._let_rest(tab)
                with trio.move_on_after(self._link.lease_s / BEATS):
                    await self._link.lost.wait()

    async def _hold_on(self, tabs: Sequence[Tab]) -> None:
        told: list[Argument] = []
        for tab in tabs:
            told += [tab.terms.name, tab.mark, tab.terms.account, tab.terms.places]
        link = self._link
        await link.call(scripts.TAB_HOLD, str(link.lease_s), *told)

    async def _let_rest(self, tab: Tab) -> None:
        """If it has spent nothing since the last time."""
        idle, self._open[tab] = self._open[tab] == tab.used, tab.used
        if idle and tab.left:
            self._low.pop(tab, None)
            # Before anything is awaited: what is given back is not spent meanwhile.
            tab.leased, self._resting[tab] = tab.used, trio.Lock()
            await self._link.call(scripts.TAB_CLOSE, *_closing(tab, RESTING))

    async def _rouse(self, tab: Tab, lock: trio.Lock) -> None:
        """Open it again, under a mark that no answer from before has."""
        async with lock:
            if tab not in self._resting:
                return
            link, mark = self._link, self._new_mark()
            told = (str(link.lease_s), *_opening(tab, mark, tab.used, again=True))
            answer = await link.insist(scripts.TAB_OPEN, link.lapsed, *told)
            tab.mark = mark
            _learn(tab, answer)
            self._resting.pop(tab, None)

    async def _top_up(self) -> None:
        """Extend those that are low. While one batch is under way the next one gathers."""
        while True:
            while not self._low:
                await self._more.park()
            batch = list(islice(self._low.items(), BATCH))
            for tab, _ in batch:
                del self._low[tab]
            marks = [tab.mark for tab, _ in batch]
            told = [word for tab, total in batch for word in _asking(tab, total)]
            answers = await self._link.insist(scripts.TAB_EXTEND, *told)
            for (tab, _), mark, answer in zip(batch, marks, answers, strict=True):
                if self._is_current(tab, mark):
                    _learn(tab, answer)

    def _is_current(self, tab: Tab, mark: str) -> bool:
        """Whether an answer under `mark` still holds: one that rests gives back what it leased."""
        return tab.mark == mark and tab not in self._resting

    def _new_mark(self) -> str:
        return f"{self._link.me}:{next(self._marks)}"

    def _owe(self, closing: Sequence[Argument]) -> None:
        self._owed.append(closing)
        self._more.unpark_all()

    async def _settle(self) -> None:
        """Close what could not be closed while Redis was away."""
        while True:
            while not self._owed:
                await self._more.park()
            await self._link.insist(scripts.TAB_CLOSE, *self._owed[0])
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


def _opening(tab: Tab, mark: str, tokens: int, *, again: bool) -> list[Argument]:
    terms = tab.terms
    about: list[Argument] = [terms.name, mark, terms.account, terms.streams, terms.places]
    return [*about, tokens, int(again), *_limits(terms)]


def _closing(tab: Tab, why: str) -> list[Argument]:
    terms = tab.terms
    about: list[Argument] = [terms.name, tab.mark, terms.account, terms.places]
    return [*about, tab.used, int(tab.forgone), why, *_limits(terms)]


def _limits(terms: Terms) -> list[Argument]:
    """Their number, and each."""
    return [len(terms.budgets), *(word for budget in terms.budgets for word in _spelled(budget))]


def _spelled(budget: Budget) -> tuple[Argument, ...]:
    return budget.account, budget.limit.unit, budget.limit.amount
