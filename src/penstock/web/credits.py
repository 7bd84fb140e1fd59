"""Tokens that a client has allowed to be sent."""

from __future__ import annotations

import trio


class Credits:
    """A count that `take` lowers and waits on at zero. None is unlimited."""

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._released = False
        self._more = trio.Event()

    def __repr__(self) -> str:
        return f"<Credits {'unlimited' if self._count is None else self._count}>"

    async def take(self) -> bool:
        """Wait for a credit and use it up; False once released, when there is none to wait for."""
        while not self._count and self._count is not None and not self._released:
            self._more = trio.Event()
            await self._more.wait()
        if self._released:
            return False
        if self._count is not None:
            self._count -= 1
        return True

    def add(self, count: int) -> None:
        if self._count is not None:
            self._count += count
        self._more.set()

    def release(self) -> None:
        """Nobody will be given a credit any more."""
        self._released = True
        self._more.set()
