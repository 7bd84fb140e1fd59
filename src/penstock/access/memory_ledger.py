"""Use counted in the memory of one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from time import time

import trio

from penstock.access.meters import DAY_S, Bucket, DayCount, Meter
from penstock.access.tab import Budget, Shortage, Tab, Terms, lost
from penstock.requests import Limit


@dataclass(slots=True)
class _Entry:
    """A tab as the ledger has it. `today` of its tokens were leased on `day`."""

    terms: Terms
    mark: str
    leased: int
    day: int = 0
    today: int = 0
    openings: int = 0

    def note(self, day: int, tokens: int) -> None:
        self.today = tokens + (self.today if day == self.day else 0)
        self.day = day


class MemoryLedger:
    """See `Ledger`. `clock` gives seconds since 1970. A limit that changes begins anew."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._meters: dict[Budget, Meter] = {}
        self._entries: dict[str, _Entry] = {}
        self._places: Counter[str] = Counter()
        self._marks = count()

    async def run(self) -> None:
        """Nothing takes a while here."""

    async def open(self, terms: Terms, tokens: int, *, again: bool = False) -> Tab | Shortage:
        await trio.lowlevel.checkpoint_if_cancelled()
        entry = self._entries.get(terms.name)
        if entry is None:
            if not again and (short := self._shortage(terms, tokens)):
                return short
            entry = self._entries[terms.name] = self._enter(terms, tokens, charged=not again)
        entry.leased = max(entry.leased, tokens)
        entry.mark, entry.openings = str(next(self._marks)), entry.openings + 1 + again
        return Tab(terms, entry.mark, entry.leased)

    async def extend(self, tab: Tab, total: int) -> Shortage | None:
        await trio.lowlevel.checkpoint_if_cancelled()
        entry = self._entries.get(tab.terms.name)
        if entry is None or entry.mark != tab.mark:
            raise lost()
        now_s, wanted = self._clock(), max(total - entry.leased, 0)
        granted, shortest = wanted, None
        for budget, meter in self._tokens(tab.terms):
            if (free := meter.free(now_s)) < granted:
                granted, shortest = free, budget
        for _, meter in self._tokens(tab.terms):
            meter.lease(now_s, granted)
        entry.leased += granted
        entry.note(int(now_s // DAY_S), granted)
        tab.leased = entry.leased
        if shortest is None:
            return None
        return Shortage(shortest, self._meter(shortest).wait_s(now_s, 1))

    def foresee(self, tab: Tab, total: int) -> None:
        """It takes no while."""

    async def close(self, tab: Tab, *, kept: bool = False) -> None:
        entry = self._entries.get(tab.terms.name)
        if entry is None or entry.mark != tab.mark:
            return
        gone = tab.forgone and entry.openings == 1
        had = 0 if gone else entry.leased if tab.forgone else tab.used
        now_s, unused = self._clock(), entry.leased - had
        for budget, meter in self._budgets(tab.terms):
            if not budget.counts_tokens:
                meter.refund(now_s, int(gone))
            elif not budget.daily:
                meter.refund(now_s, unused)
            elif int(now_s // DAY_S) == entry.day:
                meter.refund(now_s, min(unused, entry.today))
        self._places[tab.terms.account] -= tab.terms.places
        self._places += Counter()  # drops what is 0
        del self._entries[tab.terms.name]

    async def used(self, account: str, limit: Limit) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._meter(Budget(account, limit)).used(self._clock())

    async def places(self, account: str) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._places[account]

    def _shortage(self, terms: Terms, tokens: int) -> Shortage | None:
        now_s = self._clock()
        if terms.streams and self._places[terms.account] + terms.places > terms.streams:
            return Shortage(None, 0)
        for budget, meter in self._budgets(terms):
            if meter.free(now_s) < (needed := budget.needed(tokens)):
                return Shortage(budget, meter.wait_s(now_s, needed))
        return None

    def _enter(self, terms: Terms, tokens: int, *, charged: bool) -> _Entry:
        entry, now_s = _Entry(terms, "", tokens), self._clock()
        self._places[terms.account] += terms.places
        if charged:
            entry.note(int(now_s // DAY_S), tokens)
            for budget, meter in self._budgets(terms):
                meter.lease(now_s, budget.needed(tokens))
        return entry

    def _budgets(self, terms: Terms) -> Iterator[tuple[Budget, Meter]]:
        return ((budget, self._meter(budget)) for budget in terms.budgets)

    def _tokens(self, terms: Terms) -> Iterator[tuple[Budget, Meter]]:
        return ((budget, meter) for budget, meter in self._budgets(terms) if budget.counts_tokens)

    def _meter(self, budget: Budget) -> Meter:
        meter = self._meters.get(budget)
        if meter is None:
            amount = budget.limit.amount
            meter = self._meters[budget] = DayCount(amount) if budget.daily else Bucket(amount)
        return meter
