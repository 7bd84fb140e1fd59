"""Where a stream's events come from: one connection after another, each of which may break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class LostError(Exception):
    """The connection is gone. The next `take` makes another."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a job: token, complete, cancelled or error."""

    number: int
    name: str
    fields: dict[str, Any]


class Source(Protocol):
    """The events of one job."""

    async def take(self, after: int) -> Told:
        """The event behind number `after`; all up to that one have been taken.

        Raises `LostError`, and `ServerError` for what is refused.
        """
        ...

    async def close(self) -> None:
        """Give up the connection. The job does not end with it."""
