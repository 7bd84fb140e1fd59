"""Requests that are being answered, by the id that their clients know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import CANCELLED, REQUEST_NOT_FOUND, PenstockError
from penstock.events import Finished
from penstock.live import Live


class Requests:
    """What `POST /v1/requests/{id}/cancel` looks in: proxies hide that a client has left."""

    def __init__(self) -> None:
        self._running: dict[str, Live] = {}

    def __repr__(self) -> str:
        return f"<Requests {len(self._running)} running>"

    def __contains__(self, number: object) -> bool:
        return number in self._running

    @contextmanager
    def named(self, number: str, live: Live) -> Iterator[None]:
        self._running[number] = live
        try:
            yield
        finally:
            del self._running[number]

    def cancel(self, number: str) -> str:
        """End a generation, and say how it stands. Raises `PenstockError`."""
        live = self._running.get(number)
        if live is None:
            raise PenstockError(
                REQUEST_NOT_FOUND, "no such request is running here; its x-request-id names it"
            )
        live.stop(PenstockError(CANCELLED, "cancelled by the client"))
        return "finished" if isinstance(live.terminal, Finished) else "cancelled"
