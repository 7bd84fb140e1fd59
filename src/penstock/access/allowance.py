"""What one request may still use of its account's limits.

The two kinds of limit end differently. Tokens a minute are a pace: a stream that is ahead of it
waits, which parks its sequence, and loses nothing. Tokens a day are a quota: the stream that
crosses it ends, with an event that says when there is more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Self

import trio

from penstock.access.ledger import Ledger
from penstock.errors import QUOTA_EXCEEDED, PenstockError, invalid, overloaded
from penstock.requests import Caller, Limit

BLOCK = 32
"""Tokens leased at once; a shared ledger is asked this much less often."""
REFUND_S = 2.0
EVERYBODY = "/everybody"
"""The account of limits that all share; no key can be called so."""


@dataclass(slots=True)
class _Lease:
    """Tokens counted against one limit already; `left` of them are not used yet."""

    account: str
    limit: Limit
    left: int = 0

    def used_up(self, wait_s: float) -> PenstockError:
        whose = "the server's" if self.account == EVERYBODY else "your"
        if self.limit.unit == "tokens_per_day":
            return PenstockError(
                QUOTA_EXCEEDED,
                f"{whose} tokens for today are used up; come back after the time in retry_after",
                retry_after_s=_seconds(wait_s, 86_400),
            )
        return overloaded(_seconds(wait_s, 60), f"{whose} tokens a minute are used up")


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
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._requests = _of(limits, "requests_per_minute")
        # The quota first: who has none left must not wait for a pace to be told so.
        own = (_of(limits, "tokens_per_day"), _of(limits, "tokens_per_minute"))
        self._leases = [_Lease(account, limit) for limit in own if limit is not None]
        self._leases += [_Lease(EVERYBODY, limit) for limit in shared]

    @classmethod
    def of(cls, ledger: Ledger, caller: Caller, tokens_per_minute: int) -> Self:
        """For a request of `caller`; `tokens_per_minute` is everybody's together, 0 for any."""
        limits = (Limit("tokens_per_minute", tokens_per_minute),) if tokens_per_minute else ()
        return cls(ledger, caller.account, caller.limits, limits)

    @property
    def counts(self) -> bool:
        """Whether tokens have to be counted at all."""
        return bool(self._leases)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.move_on_after(REFUND_S, shield=True):
            await self._give_back()

    async def begin(self, prompt_tokens: int) -> None:
        """Count the request and its prompt, or refuse it at once. Raises `PenstockError`."""
        self._check(prompt_tokens)
        if self._requests is not None:
            grant = await self._ledger.lease(self._account, self._requests, 1)
            if not grant.tokens:
                raise overloaded(_seconds(grant.wait_s, 60), "your requests a minute are used up")
        for lease in self._leases:
            wait_s = await self._take(lease, prompt_tokens)
            if lease.left < prompt_tokens:
                await self._give_back()
                raise lease.used_up(wait_s)
        self._use(prompt_tokens)

    async def spend(self) -> None:
        """One more token, as soon as the pace allows. Raises `PenstockError` at the quota's end."""
        while short := next((lease for lease in self._leases if not lease.left), None):
            wait_s = await self._take(short, BLOCK)
            if short.left:
                continue
            if short.limit.unit == "tokens_per_day":
                raise short.used_up(wait_s)
            await trio.sleep(wait_s)
        self._use(1)

    def _check(self, prompt_tokens: int) -> None:
        for lease in self._leases:
            amount = lease.limit.amount
            if lease.limit.unit == "tokens_per_minute" and prompt_tokens > amount:
                raise invalid("prompt", f"you may use {amount} tokens a minute; shorten it")

    async def _take(self, lease: _Lease, wanted: int) -> float:
        """Lease as many as there are of `wanted`; how long to wait for more."""
        grant = await self._ledger.lease(lease.account, lease.limit, wanted)
        lease.left += grant.tokens
        return grant.wait_s

    def _use(self, tokens: int) -> None:
        for lease in self._leases:
            lease.left -= tokens

    async def _give_back(self) -> None:
        for lease in self._leases:
            left, lease.left = lease.left, 0
            if left:
                await self._ledger.refund(lease.account, lease.limit, left)


def _of(limits: tuple[Limit, ...], unit: str) -> Limit | None:
    return next((limit for limit in limits if limit.unit == unit), None)


def _seconds(wait_s: float, most: int) -> int:
    return min(max(ceil(wait_s), 1), most)
