"""Forgetting what has ended, once nobody has asked for it long enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf

import trio

from penstock.jobs.redis import scripts
from penstock.jobs.redis.absence import AwayError
from penstock.jobs.redis.link import PROBE_S, Link


class Sweep:
    """Asks Redis to forget when something is due. Every process does.

    `forgotten` is called for each job that this process forgot.
    """

    def __init__(
        self, link: Link, held: Callable[[Sequence[bytes]], None], forgotten: Callable[[], None]
    ) -> None:
        self.due_s = inf
        """When the next one is, in Trio's time."""
        self._link = link
        self._held = held
        self._forgotten = forgotten
        self._ripening = trio.lowlevel.ParkingLot()

    def plan(self, due: bytes) -> None:
        """The next one is due at this moment of Redis's; none is where it is empty."""
        self.due_s = self._link.clock.local_s(float(due)) if due else inf
        self._ripening.unpark_all()

    async def run(self) -> None:
        """Forget until cancelled."""
        while True:
            with trio.move_on_at(self.due_s):
                await self._ripening.park()
            while self.due_s <= trio.current_time():
                await self._link.there.wait()
                if not self._link.resumed:
                    # Those elsewhere who read may not have said so again.
                    await trio.sleep(PROBE_S)
                    continue
                with suppress(AwayError):
                    await self._forget()

    async def _forget(self) -> None:
        held, forgotten = await self._link.call(scripts.SWEEP)
        self._held(held)
        for _ in range(forgotten):
            self._forgotten()
        if not forgotten:
            # It is not as late for Redis as it seemed here.
            await trio.sleep(PROBE_S)
