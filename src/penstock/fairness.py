"""Whose turn it is to get a slot: the account that has been served the least for its weight.

A virtual token counter for each account (Y. Sheng et al., "Fairness in serving large language
models", 2024): a prompt token costs 1 and a token made costs 2, divided by the account's weight.
The next slot goes to the waiting account with the lowest counter, first come first served within
it. An account that begins to wait is lifted to the lowest counter among those that wait, so nobody
can save up for later. While nobody waits there is nothing to share, and counters are forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

PROMPT_COST = 1
TOKEN_COST = 2
REMEMBERED = 4096
"""Accounts whose counters are kept at the most, beside those that wait: addresses have no end."""


class Charged(Protocol):
    """What can wait here: something on an account."""

    @property
    def account(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def places(self) -> int: ...


T = TypeVar("T", bound=Charged)


@dataclass(slots=True)
class _Account(Generic[T]):
    """`turn` is when it got its last slot, as a number that grows."""

    served: float = 0.0
    turn: int = -1
    waiting: deque[T] = field(default_factory=deque)

    @property
    def line(self) -> int:
        return sum(item.places for item in self.waiting)


class FairQueue(Generic[T]):
    """First come, first served within an account; the least served account first."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account[T]] = {}
        self._turns = count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for account in self._accounts.values():
            yield from account.waiting

    def push(self, item: T) -> None:
        account = self._accounts.setdefault(item.account, _Account())
        if not account.waiting:
            lowest = min((each.served for each in self._waiting()), default=0.0)
            account.served = max(account.served, lowest)
        account.waiting.append(item)
        self._length += 1

    def pop(self) -> T:
        """The next in turn. Raises `ValueError` when nobody waits."""
        account = min(self._waiting(), key=lambda each: (each.served, each.turn))
        account.turn = next(self._turns)
        item = account.waiting.popleft()
        self._shrink()
        return item

    def remove(self, item: T) -> None:
        """Take out one that waits. Raises `ValueError` when it does not."""
        account = self._accounts.get(item.account)
        if account is None:
            raise ValueError("it does not wait here")
        account.waiting.remove(item)
        self._shrink()

    @property
    def places(self) -> int:
        """How many slots are waited for."""
        return sum(account.line for account in self._accounts.values())

    def crowd(
        self, account: str, arriving: int, places: int, may_go: Callable[[T], bool]
    ) -> list[T]:
        """Those that have to go so that `places` are free for `account`, the latest first.

        Each is of the line that is longest by then, which stays at least as long as that of
        `account` with those `arriving`. None at all where that cannot be.
        """
        line = arriving + sum(each.line for name, each in self._accounts.items() if name == account)
        others = [each for name, each in self._accounts.items() if name != account]
        lines = [[item for item in each.waiting if may_go(item)] for each in others]
        lengths = [each.line for each in others]
        going: list[T] = []
        while sum(item.places for item in going) < places:
            longest = max(range(len(lines)), key=lambda i: (bool(lines[i]), lengths[i]), default=-1)
            if longest < 0 or not lines[longest]:
                return []
            going.append(lines[longest].pop())
            lengths[longest] -= going[-1].places
            if lengths[longest] < line:
                return []
        return going

    def charge(self, item: T, cost: float) -> None:
        """Count `cost` against the account of `item`."""
        if self._length:
            account = self._accounts.setdefault(item.account, _Account())
            account.served += cost / item.weight

    def _waiting(self) -> Iterator[_Account[T]]:
        return (account for account in self._accounts.values() if account.waiting)

    def _shrink(self) -> None:
        self._length -= 1
        if not self._length:
            self._accounts.clear()
        elif len(self._accounts) > self._length + REMEMBERED:
            self._accounts = {
                name: account for name, account in self._accounts.items() if account.waiting
            }
