"""What one request may still use of its account's limits.

The two kinds of limit end differently. Tokens a minute are a pace: a stream that is ahead of it
waits, which parks its sequence, and loses nothing. Tokens a day are a quota: the stream that
crosses it ends, with an event that says when there is more.
"""

from __future__ import annotations

from math import ceil
from typing import Self

import trio

from penstock.access.ledger import Ledger
from penstock.errors import QUOTA_EXCEEDED, PenstockError, invalid, overloaded
from penstock.requests import Limit

BLOCK = 32
"""Tokens leased at once; a shared ledger is asked this much less often."""
REFUND_S = 2.0


class Allowance:
    """Counts the tokens of one request, all of its choices together, against limits.

    Use as an async context manager: leaving it gives back what was leased and not used.
    """

    def __init__(self, ledger: Ledger, account: str, limits: tuple[Limit, ...]) -> None:
        self._ledger = ledger
        self._account = account
        self._requests = _of(limits, "requests_per_minute")
        self._pace = _of(limits, "tokens_per_minute")
        self._quota = _of(limits, "tokens_per_day")
        self._left = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        left, self._left = self._left, 0
        with trio.move_on_after(REFUND_S, shield=True):
            await self._give_back(left)

    async def begin(self, prompt_tokens: int) -> None:
        """Count the request and its prompt, or refuse it at once. Raises `PenstockError`."""
        if self._requests is not None:
            grant = await self._ledger.lease(self._account, self._requests, 1)
            if not grant.tokens:
                raise overloaded(_seconds(grant.wait_s, 60), "your requests a minute are used up")
        if self._pace is not None and prompt_tokens > self._pace.amount:
            raise invalid("prompt", f"you may use {self._pace.amount} tokens a minute; shorten it")
        granted, wait_s = await self._lease(prompt_tokens, whole=True)
        if granted < prompt_tokens:
            await self._give_back(granted)
            raise overloaded(_seconds(wait_s, 60), "your tokens a minute are used up")

    async def spend(self) -> None:
        """One more token, as soon as the pace allows. Raises `PenstockError` at the quota's end."""
        while not self._left:
            granted, wait_s = await self._lease(BLOCK, whole=False)
            self._left += granted
            if not self._left:
                await trio.sleep(wait_s)
        self._left -= 1

    async def _lease(self, wanted: int, *, whole: bool) -> tuple[int, float]:
        """How many both limits grant, and how long to wait for more."""
        granted = await self._lease_quota(wanted, whole=whole)
        if self._pace is None:
            return granted, 0.0
        grant = await self._ledger.lease(self._account, self._pace, granted)
        if self._quota is not None:
            await self._ledger.refund(self._account, self._quota, granted - grant.tokens)
        return grant.tokens, grant.wait_s

    async def _lease_quota(self, wanted: int, *, whole: bool) -> int:
        """At least one token, or where they are of use as a `whole` only, all that are wanted."""
        if self._quota is None:
            return wanted
        grant = await self._ledger.lease(self._account, self._quota, wanted)
        if grant.tokens < (wanted if whole else 1):
            await self._ledger.refund(self._account, self._quota, grant.tokens)
            raise PenstockError(
                QUOTA_EXCEEDED,
                "your tokens for today are used up; come back after the time in retry_after",
                retry_after_s=_seconds(grant.wait_s, 86_400),
            )
        return grant.tokens

    async def _give_back(self, tokens: int) -> None:
        for limit in (self._pace, self._quota):
            if limit is not None and tokens:
                await self._ledger.refund(self._account, limit, tokens)


def _of(limits: tuple[Limit, ...], unit: str) -> Limit | None:
    return next((limit for limit in limits if limit.unit == unit), None)


def _seconds(wait_s: float, most: int) -> int:
    return min(max(ceil(wait_s), 1), most)
