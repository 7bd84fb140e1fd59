"""Requests that are being answered, by the id that their clients know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import REQUEST_NOT_FOUND, PenstockError
from penstock.events import Finished
from penstock.requests import Caller
from penstock.web.exchange import Exchange


class Requests:
    """What `POST /v1/requests/{id}/cancel` looks in: proxies hide that a client has left."""

    def __init__(self) -> None:
        self._running: dict[str, Exchange] = {}

    def __repr__(self) -> str:
        return f"<Requests {len(self._running)} running>"

    def __contains__(self, number: object) -> bool:
        return number in self._running

    @contextmanager
    def named(self, exchange: Exchange) -> Iterator[None]:
        self._running[exchange.number] = exchange
        try:
            yield
        finally:
            del self._running[exchange.number]

    async def cancel(self, number: str, caller: Caller) -> str:
        """End a generation of `caller`, or anybody's for an admin, and say how it stands.

        Raises `PenstockError`, also for a request that reads what another one has started.
        """
        exchange = self._running.get(number)
        if exchange is None or not (caller.admin or exchange.caller.account == caller.account):
            raise PenstockError(
                REQUEST_NOT_FOUND, "no such request is running here; its x-request-id names it"
            )
        if exchange.end is None:
            raise PenstockError(
                REQUEST_NOT_FOUND,
                "this request generates nothing itself; cancel the job or the response by its id",
            )
        return "finished" if isinstance(await exchange.end(), Finished) else "cancelled"
