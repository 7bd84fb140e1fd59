"""Where use is counted, behind one interface, so that several processes can share it.

Each request has a tab. What it may use is counted when it is leased, and what it has not used is
given back when its tab is closed. So nothing is overspent, whoever dies when.
"""

from __future__ import annotations

from typing import Protocol

from penstock.access.tab import Shortage, Tab, Terms
from penstock.requests import Limit


class Ledger(Protocol):
    """Use by account and limit."""

    async def run(self) -> None:
        """Do what nobody waits for, until cancelled."""

    async def open(self, terms: Terms, tokens: int, *, again: bool = False) -> Tab | Shortage:
        """Count a request with its first `tokens`, all of it or nothing.

        A tab of that name which another process has left is gone on with and charges nothing; so
        does a request that goes on `again` with tokens that were charged before. Raises
        `PenstockError` where nothing can be counted now.
        """

    async def extend(self, tab: Tab, total: int) -> Shortage | None:
        """Have up to `total` tokens leased, as many as there are; what is short if that is less.

        Where nothing is short there may still be none, for one that spent nothing meanwhile.
        Waits where nothing can be counted now. Raises `PenstockError` where the tab is another's.
        """

    def foresee(self, tab: Tab, total: int) -> None:
        """`extend` it soon, if that takes a while; the caller goes on with what is left."""

    async def close(self, tab: Tab, *, kept: bool = False) -> None:
        """Give back what it has not used. One that is `kept` is gone on with elsewhere.

        Nothing where somebody else has opened it meanwhile: what is left is theirs.
        """

    async def used(self, account: str, limit: Limit) -> int:
        """Raises `PenstockError` where that is not known now."""

    async def places(self, account: str) -> int:
        """How many are taken. Raises `PenstockError` where that is not known now."""
