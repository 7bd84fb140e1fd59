"""Connections to one Redis, and whether it is there.

Commands of all tasks share one connection, where the client batches them. What blocks has a
connection of its own: it would hold up the others, also after it is cancelled. No command is cut
short, so that what it did is always known; each ends within `configuration.REQUEST_S`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Any, TypeAlias

import trio
from glide import GlideError, Script

from penstock.jobs.redis import scripts
from penstock.jobs.redis.absence import AwayError, FullError, is_fault
from penstock.jobs.redis.address import Address
from penstock.jobs.redis.client import Client, Connect, connect
from penstock.jobs.redis.clock import Clock
from penstock.jobs.redis.survey import find_faults, read_info

log = logging.getLogger(__name__)

PROBE_S = 0.1
PREFIX = "{penstock}:"

Argument: TypeAlias = str | bytes | int


class Link:
    """One process's way to Redis. `me` is its name there, of this run alone."""

    def __init__(
        self,
        address: Address,
        me: str,
        *,
        lease_s: float,
        clock: Clock | None = None,
        connect: Connect = connect,
    ) -> None:
        self.me = me
        self.clock = clock or Clock()
        self.lease_s = lease_s
        """Without a sign of life for as long, this process is taken for dead."""
        self.there = trio.Event()
        """Set while Redis answers; another event takes its place when it does not."""
        self.full = False
        """Whether Redis refused the last new thing that it was given."""
        self._address = address
        self._connect_to = connect
        self._client: Client | None = None
        self._steady_s = inf
        """Since when it answers, and its clock goes as this process's does."""
        self._was_away = False
        self.lost = trio.Event()
        """Set when it does not answer any more; then there is another one, too."""

    def __repr__(self) -> str:
        return f"<Link {self._address} {'there' if self.there.is_set() else 'away'}>"

    @property
    def lapsed(self) -> str:
        """Leases that ended before this moment are over, unless Redis's own time is before it.

        While Redis was away nobody could give a sign of life, so all have a while to do that; and
        so they have once its clock, or this process's, was found to have been set.
        """
        return f"{self.clock.now_s:.6f}" if self.steady else "0"

    @property
    def resumed(self) -> bool:
        """Whether all who read have had a while to say so again, if Redis was away."""
        return self.steady or (self.there.is_set() and not self._was_away)

    @property
    def steady(self) -> bool:
        """Whether Redis is there, and all who live have had a while to say so."""
        return self.there.is_set() and trio.current_time() - self._steady_s >= self.lease_s / 2

    async def run(self) -> None:
        """Connect, and see to it that `there` tells the truth, until cancelled."""
        async with self.connection() as self._client:
            try:
                while True:
                    await self._greet(self._client)
                    log.info("the store is there", extra={"store": str(self._address)})
                    await self._look_over(self._client)
                    self._steady_s = trio.current_time()
                    self.there.set()
                    await self.lost.wait()
            finally:
                with suppress(AwayError), trio.CancelScope(shield=True):
                    await self.call(scripts.LEAVE)

    async def call(self, script: Script, *given: Argument) -> Any:  # noqa: ANN401  # as the script
        """What `script` answers to its arguments, which follow this process and the time. Raises
        `AwayError`, and `FullError` where it would make something new.

        It is not cut short when cancelled.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._client is None or not self.there.is_set():
            raise AwayError
        try:
            return await self._invoke(self._client, script, *given)
        except GlideError as error:
            if "OOM" in str(error):
                self._find(full=True)
                raise FullError from error
            self._miss(error)
            raise AwayError from error

    async def beat(self, *written: str) -> Sequence[bytes]:
        """Give a sign of life, of the jobs `written` here too, and learn what time it is.

        Gives what `held` in `common.lua` does. Raises `AwayError`.
        """
        asked_s = trio.current_time()
        held: Sequence[bytes]
        held, theirs = await self.call(scripts.BEAT, str(self.lease_s), *written)
        wrong_s = self.clock.learn(float(theirs), asked_s)
        if wrong_s > self.lease_s / 4:
            told = {"store": str(self._address), "seconds": round(wrong_s, 3)}
            log.warning("a clock was set: the store's, or this machine's", extra=told)
            self._steady_s = trio.current_time()
        return held

    async def look_for_room(self) -> None:
        """Learn whether Redis is still `full`. Raises `AwayError`."""
        with suppress(FullError):
            await self.call(scripts.ROOM)
            self._find(full=False)

    async def insist(self, script: Script, *given: Argument) -> Any:  # noqa: ANN401
        """`call`, as often as it takes. For what is harmless when it is done twice."""
        while True:
            try:
                return await self.call(script, *given)
            except AwayError:
                await self.there.wait()

    async def events(self, key: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Events of a stream behind number `after`, with their numbers. Raises `AwayError`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._client is None or not self.there.is_set():
            raise AwayError
        asked: list[str | bytes] = ["XRANGE", PREFIX + key, f"{after + 1}-0", "+", "COUNT"]
        try:
            with trio.CancelScope(shield=True):
                got: Any = await self._client.custom_command([*asked, str(limit)])
        except GlideError as error:
            self._miss(error)
            raise AwayError from error
        return [(int(name.partition(b"-")[0]), each[0][1]) for name, each in (got or {}).items()]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Client]:
        """One of its own, as soon as Redis is there."""
        client = await self._connect()
        try:
            yield client
        finally:
            with trio.CancelScope(shield=True):
                await client.close()

    async def _connect(self) -> Client:
        told: dict[str, str] = {}
        while True:
            try:
                return await self._connect_to(self._address)
            except GlideError as error:
                if not told:
                    told = {"store": str(self._address), "why": str(error)}
                    log.warning("the store is away", extra=told)
            await trio.sleep(PROBE_S)

    async def _greet(self, client: Client) -> None:
        """Once Redis answers, know what time it is, and be known to be alive."""
        while True:
            try:
                asked_s = trio.current_time()
                _, theirs = await self._invoke(client, scripts.BEAT, str(self.lease_s))
                self.clock.learn(float(theirs), asked_s)
                return
            except GlideError as error:
                if is_fault(error):
                    raise
                await trio.sleep(PROBE_S)

    async def _invoke(self, client: Client, script: Script, *given: Argument) -> Any:  # noqa: ANN401
        arguments = [self.me, self.clock.told, *(_told(each) for each in given)]
        with trio.CancelScope(shield=True):
            return await client.invoke_script(script, [PREFIX], arguments)

    def _find(self, *, full: bool) -> None:
        if full != self.full:
            self.full = full
            told = {"store": str(self._address)}
            if full:
                log.warning("the store is full and takes no new jobs", extra=told)
            else:
                log.info("the store has room again", extra=told)

    async def _look_over(self, client: Client) -> None:
        """Warn of what loses jobs. Where asking is forbidden there is nothing to tell."""
        with suppress(GlideError), trio.CancelScope(shield=True):
            for fault in find_faults(read_info(await client.info())):
                if fault.grave:
                    log.warning("the store: %s; %s", fault.what, fault.advice)

    def _miss(self, error: GlideError) -> None:
        """A script that failed is a fault of ours and comes out as such; all else is an absence."""
        if is_fault(error):
            raise error
        if self.there.is_set():
            log.warning("the store is away", extra={"store": str(self._address), "why": str(error)})
            self.there, self._was_away = trio.Event(), True
            lost, self.lost = self.lost, trio.Event()
            lost.set()


async def ask_info(address: Address) -> Mapping[str, str]:
    """What a Redis says of itself. Raises `AwayError`, whose cause says why."""
    client = None
    try:
        client = await connect(address)
        return read_info(await client.info())
    except GlideError as error:
        raise AwayError from error
    finally:
        if client is not None:
            await client.close()


def _told(value: Argument) -> str | bytes:
    return str(value) if isinstance(value, int) else value
