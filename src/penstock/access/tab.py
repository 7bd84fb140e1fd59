"""What one request is charged to, and how much of it is paid for already. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.errors import UNAVAILABLE, PenstockError
from penstock.requests import Limit


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit, and the account whose use counts against it."""

    account: str
    limit: Limit

    @property
    def counts_tokens(self) -> bool:
        return self.limit.unit != "requests_per_minute"

    @property
    def daily(self) -> bool:
        return self.limit.unit == "tokens_per_day"

    def needed(self, tokens: int) -> int:
        """What a request with so many tokens takes of it."""
        return tokens if self.counts_tokens else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A request as a ledger sees it. A job has the same `name` wherever it runs.

    `account` may have `streams` places at once, 0 for any number, and this takes `places` of them.
    """

    name: str
    account: str
    budgets: tuple[Budget, ...] = ()
    streams: int = 0
    places: int = 1


@dataclass(frozen=True, slots=True)
class Shortage:
    """There is more in `wait_s`; without a `budget` it is places that are short."""

    budget: Budget | None
    wait_s: float


@dataclass(slots=True, eq=False)
class Tab:
    """Tokens counted for one request: `leased` of them, `used` of which it has had.

    They are counted before they are used, so that whatever happens to this process nobody uses
    more than there is. `mark` is of this opening alone: one who took a job over has another.
    """

    terms: Terms
    mark: str
    leased: int
    used: int = 0
    forgone: bool = False
    """Nothing was generated, so that nothing is charged, unless another one had begun it."""

    @property
    def left(self) -> int:
        return self.leased - self.used


def lost() -> PenstockError:
    """For one whose tab somebody else has now, or nobody knows any more."""
    return PenstockError(
        UNAVAILABLE, "what this request uses is not counted here any more", retry_after_s=2
    )
