"""What happens to a fleet, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Protocol, TypeAlias

import trio

from .process import Process, Role
from .world import FleetWorld

Harm: TypeAlias = Callable[["Harms"], Awaitable[None]]
WITHIN_S = 20.0


class Start(Protocol):
    async def __call__(self, role: Role) -> Process: ...


class Harms:
    """Does some of what may happen, some times, and mends it again."""

    def __init__(
        self, world: FleetWorld, random: Random, start: Start, kinds: Sequence[Harm] | None = None
    ) -> None:
        self.world = world
        self.random = random
        self.done = trio.Event()
        """Set when there is nobody left to be harmed."""
        self._start = start
        some = random.sample(KINDS, random.choice((0, 1, 2, 3, len(KINDS))))
        self.kinds = some if kinds is None else kinds
        world.cuts = bool({kill_edge, drain_edge} & set(self.kinds))
        world.refuses = bool({stop_store, fill_store, *EDGES} & set(self.kinds))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for kind in self.kinds:
                nursery.start_soon(self._repeat, kind)

    async def _repeat(self, kind: Harm) -> None:
        for _ in range(self.random.choice((1, 1, 2, 4))):
            with trio.move_on_after(self.random.uniform(0, self.random.choice((1, 5, WITHIN_S)))):
                await self.done.wait()
                return
            await kind(self)

    def tell(self, who: str, what: str) -> None:
        self.world.tell(who, what)

    def pick(self, *roles: Role) -> Process | None:
        """One that is well, and is not the last of its kind where that can be helped."""
        well = [
            each
            for each in self.world.processes.values()
            if each.role in roles
            and not (each.machine.dead or each.machine.frozen or each.draining)
        ]
        return self.random.choice(well) if well else None

    async def replace(self, process: Process) -> None:
        await trio.sleep(self.random.choice((0, 0.1, 1, 5)))
        started = await self._start(process.role)
        self.tell(started.name, f"takes the place of {process.name}")


async def kill_worker(harms: Harms) -> None:
    await _kill(harms, harms.pick("worker", "all"))


async def kill_edge(harms: Harms) -> None:
    await _kill(harms, harms.pick("edge"))


async def _kill(harms: Harms, victim: Process | None) -> None:
    if victim is not None:
        harms.tell(victim.name, "is killed")
        if victim.role == "all":
            harms.world.cuts = harms.world.refuses = True
        victim.kill()
        await victim.ended.wait()
        await harms.replace(victim)


async def freeze_worker(harms: Harms) -> None:
    """For a part of its lease, or for longer than that."""
    victim = harms.pick("worker")
    if victim is not None:
        for_s = harms.random.choice((0.3, 1.1, 3)) * harms.world.settings.lease_s
        harms.tell(victim.name, f"is stopped for {for_s:.1f} s")
        victim.machine.freeze()
        await trio.sleep(for_s)
        harms.tell(victim.name, "goes on")
        victim.machine.thaw()


async def drain_worker(harms: Harms) -> None:
    await _drain(harms, harms.pick("worker"))


async def drain_edge(harms: Harms) -> None:
    await _drain(harms, harms.pick("edge"))


async def _drain(harms: Harms, victim: Process | None) -> None:
    if victim is not None:
        drain_s = harms.random.choice((0, 1, 20))
        harms.tell(victim.name, f"drains for {drain_s} s")
        await victim.drain(drain_s)
        await harms.replace(victim)


async def stop_store(harms: Harms) -> None:
    """What it has confirmed is there when it comes back."""
    redis, for_s = harms.world.redis, harms.random.choice((0.1, 0.5, 2, 5, 10))
    if redis.up:
        harms.tell("store", f"is away for {for_s} s")
        redis.stop()
        await trio.sleep(for_s)
        harms.tell("store", "is back")
        redis.start()
        harms.world.book.excuse()


async def fill_store(harms: Harms) -> None:
    redis = harms.world.redis
    if not redis.full:
        harms.tell("store", "is full")
        redis.full = True
        await trio.sleep(harms.random.choice((0.5, 3, 10)))
        harms.tell("store", "has room")
        redis.full = False


EDGES = (kill_edge, drain_edge)
KINDS: tuple[Harm, ...] = (
    kill_worker,
    kill_edge,
    freeze_worker,
    drain_worker,
    drain_edge,
    stop_store,
    fill_store,
)
