"""What one request may still use of its account's limits.

The two kinds of limit end differently. Tokens a minute are a pace: a stream that is ahead of it
waits, which parks its sequence, and loses nothing. Tokens a day are a quota: the stream that
crosses it ends, with an event that says when there is more.
"""

from __future__ import annotations

from math import ceil
from secrets import token_hex
from typing import Self

import trio

from penstock.access.ledger import Ledger
from penstock.access.tab import Budget, Shortage, Tab, Terms
from penstock.errors import QUOTA_EXCEEDED, PenstockError, invalid, overloaded
from penstock.requests import GenerateRequest, Limit

BLOCK = 32
"""Tokens leased at once; a shared ledger is asked this much less often."""
LOW = 16
"""With as many left, the next block is asked for: half a second's, where a step takes 30 ms."""
REFUND_S = 2.0
CROWDED_S = 2
EVERYBODY = "/everybody"
"""The account of limits that all share; no key can be called so."""
# The quota before the pace: who has none left must not wait for a pace to be told so.
ORDER = ("requests_per_minute", "tokens_per_day", "tokens_per_minute")


class Allowance:
    """Counts the tokens of one request, all of its choices together, against limits.

    `shared` are those of all accounts together. Use as an async context manager: leaving it gives
    back what was leased and not used.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        limits: tuple[Limit, ...],
        shared: tuple[Limit, ...] = (),
        *,
        streams: int = 0,
        places: int = 1,
        job: str = "",
    ) -> None:
        self._ledger = ledger
        own = sorted(limits, key=lambda limit: ORDER.index(limit.unit))
        self._terms = Terms(
            name=job or token_hex(12),
            account=account,
            budgets=(
                *(Budget(account, limit) for limit in own),
                *(Budget(EVERYBODY, limit) for limit in shared),
            ),
            streams=streams,
            places=places,
        )
        self._tab: Tab | None = None
        self.moved = False
        """If it is a job's, that goes on in another process."""
        self._job = bool(job)

    @classmethod
    def of(cls, ledger: Ledger, request: GenerateRequest, tokens_per_minute: int, job: str) -> Self:
        """For a request; `tokens_per_minute` is everybody's together, 0 for any."""
        caller, n = request.caller, request.n
        shared = (Limit("tokens_per_minute", tokens_per_minute),) if tokens_per_minute else ()
        own, streams = caller.limits, caller.streams
        return cls(ledger, caller.account, own, shared, streams=streams, places=n, job=job)

    @property
    def counts(self) -> bool:
        """Whether tokens have to be counted at all."""
        return any(budget.counts_tokens for budget in self._terms.budgets)

    @property
    def left(self) -> int:
        """Tokens that are counted already and not used."""
        return self._tab.left if self._tab else 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._tab is not None:
            with trio.move_on_after(REFUND_S, shield=True):
                await self._ledger.close(self._tab, kept=self._job and self.moved)

    async def begin(self, tokens: int, *, again: bool = False) -> None:
        """Count the request and its prompt, or refuse it at once. Raises `PenstockError`.

        Of one that goes on `again`, `tokens` are those that it has had, and charged already.
        """
        if not again:
            self._check(tokens)
        if not (self._terms.budgets or self._terms.streams):
            return
        opened = await self._ledger.open(self._terms, tokens, again=again)
        if isinstance(opened, Shortage):
            raise _refusal(opened)
        self._tab = opened
        self._tab.used = tokens
        if self.counts:
            self._ledger.foresee(self._tab, tokens + BLOCK)

    async def spend(self) -> None:
        """One more token, as soon as the pace allows. Raises `PenstockError` at the quota's end."""
        if (tab := self._tab) is None:
            return
        while not tab.left:
            await self._extend(tab)
        tab.used += 1
        if tab.left == LOW:
            self._ledger.foresee(tab, tab.leased + BLOCK)

    def forgo(self) -> None:
        """Nothing was generated, so nothing is charged."""
        if self._tab is not None:
            self._tab.forgone = True

    async def _extend(self, tab: Tab) -> None:
        short = await self._ledger.extend(tab, tab.used + BLOCK)
        if tab.left or short is None:
            return
        if short.budget is not None and short.budget.daily:
            raise _refusal(short)
        await trio.sleep(short.wait_s)

    def _check(self, prompt_tokens: int) -> None:
        for budget in self._terms.budgets:
            amount = budget.limit.amount
            if budget.limit.unit == "tokens_per_minute" and prompt_tokens > amount:
                raise invalid("prompt", f"you may use {amount} tokens a minute; shorten it")


def _refusal(short: Shortage) -> PenstockError:
    budget = short.budget
    if budget is None:
        return overloaded(CROWDED_S, "you have too many requests running")
    whose = "the server's" if budget.account == EVERYBODY else "your"
    if budget.daily:
        return PenstockError(
            QUOTA_EXCEEDED,
            f"{whose} tokens for today are used up; come back after the time in retry_after",
            retry_after_s=_seconds(short.wait_s, 86_400),
        )
    what = "tokens" if budget.counts_tokens else "requests"
    return overloaded(_seconds(short.wait_s, 60), f"{whose} {what} a minute are used up")


def _seconds(wait_s: float, most: int) -> int:
    return min(max(ceil(wait_s), 1), most)
