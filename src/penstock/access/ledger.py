"""Where use is counted, behind one interface, so that several servers can share it.

Whoever spends leases a block ahead and gives back what is left: a shared ledger is asked once for
many tokens, and what is leased and not used yet is already counted, so nothing is overspent.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Protocol

import trio

from penstock.access.meters import Bucket, DayCount, Grant, Meter
from penstock.requests import Limit


class Ledger(Protocol):
    """Use by account and limit."""

    async def lease(self, account: str, limit: Limit, wanted: int) -> Grant:
        """Count up to `wanted` as used, as much as is left."""

    async def refund(self, account: str, limit: Limit, amount: int) -> None:
        """Of what was leased, `amount` was not used."""

    async def used(self, account: str, limit: Limit) -> int: ...


class MemoryLedger:
    """For one process. `clock` gives seconds since 1970. A limit that changes begins anew."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._meters: dict[tuple[str, Limit], Meter] = {}

    async def lease(self, account: str, limit: Limit, wanted: int) -> Grant:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._meter(account, limit).lease(self._clock(), wanted)

    async def refund(self, account: str, limit: Limit, amount: int) -> None:
        self._meter(account, limit).refund(self._clock(), amount)

    async def used(self, account: str, limit: Limit) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._meter(account, limit).used(self._clock())

    def _meter(self, account: str, limit: Limit) -> Meter:
        meter = self._meters.get((account, limit))
        if meter is None:
            meter = self._meters[account, limit] = _meter_for(limit)
        return meter


def _meter_for(limit: Limit) -> Meter:
    return DayCount(limit.amount) if limit.unit == "tokens_per_day" else Bucket(limit.amount)
