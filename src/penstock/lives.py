"""What runs: a drain waits for it, and ends it if it takes too long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from penstock.errors import PenstockError
from penstock.live import Live


class Lives:
    """All generations and readers of one service."""

    def __init__(self) -> None:
        self._lives: dict[Live, None] = {}
        self._gone = trio.Event()

    def __repr__(self) -> str:
        return f"<Lives {len(self)}>"

    def __len__(self) -> int:
        return len(self._lives)

    @contextmanager
    def of(self, live: Live) -> Iterator[None]:
        """`live` runs within the block."""
        self._lives[live] = None
        try:
            yield
        finally:
            del self._lives[live]
            if not self._lives:
                self._gone.set()

    def stop(self, error: PenstockError) -> None:
        """End all, and say why."""
        for live in self._lives:
            live.stop(error)

    async def wait_gone(self, patience_s: float) -> None:
        """Until nothing runs, and not for longer than that."""
        if self._lives:
            self._gone = trio.Event()
            with trio.move_on_after(patience_s):
                await self._gone.wait()
