"""One seeded fleet: its processes, their store, their clients, what happens to them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

import msgspec
import trio

from penstock.settings import Settings, build

from ..casting import Play, cast_of
from ..scripted import CHUNK, Script
from ..story import Story, tell, words
from ..world import PACES, BrokenPromiseError, Habits
from .auditor import FleetAuditor
from .book import Book
from .connection import Weather
from .harms import Harm, Harms
from .machine import Machine
from .process import Process, Role
from .redis import Redis, Sources, read_sources, virtual_clock
from .world import FleetWorld

PATIENCE_S = 6000
"""Of virtual time, for a whole world."""
ATTEMPTS = 100
STAYS = {b"{penstock}:totals", b"{penstock}:made", b"{penstock}:idle:default"}
"""Keys that stay when all is over: counters, and workers that waited when they left."""
JANITOR_LEASE_S = 100


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the seed does not decide: the scripts, the network, what happens."""

    sources: Sources = field(default_factory=read_sources)
    weather: Weather | None = None
    harms: Sequence[Harm] | None = None


def run(seed: int, given: Conditions | None = None) -> Story:
    """Live through one world of several processes."""
    return tell(seed, partial(_live, given or Conditions()))


async def _live(given: Conditions, seed: int, lines: list[str]) -> None:
    with virtual_clock(), trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as network:
            tasks = trio.lowlevel.current_statistics().tasks_living
            await _Fleet(given, seed, lines, network).live()
            left = trio.lowlevel.current_statistics().tasks_living - tasks
            if left:
                raise BrokenPromiseError(f"{left} tasks are left")


class _Fleet:
    def __init__(
        self, given: Conditions, seed: int, lines: list[str], network: trio.Nursery
    ) -> None:
        self._given = given
        random = self._random = Random(seed)
        self._network = network
        self._settings, habits = _settings(random), _habits(random)
        drawn = Weather(random.choice((0, 0, 0.002, 0.02)), random.choice((0, 0, 0.005)))
        self._weather = drawn if given.weather is None else given.weather
        self._faults = random.choice((0, 0, 0, 0.01))
        self._script = Script(words())
        self._numbers, self._ids = count(1), count(1)
        book = Book(self._script, words(), patience_s=self._settings.lease_s + 5)
        redis = Redis(given.sources, book.saw)
        book.ask = redis.ask
        self.world = FleetWorld(
            seed=seed,
            script=self._script,
            tokenizer=words(),
            settings=self._settings,
            habits=habits,
            lines=lines,
            attempts=ATTEMPTS,
            redis=redis,
            book=book,
        )

    async def live(self) -> None:
        random, world = self._random, self.world
        async with trio.open_nursery() as self._nursery:
            auditor = FleetAuditor(world, self._nursery.cancel_scope)
            trio.lowlevel.add_instrument(auditor)
            for role in _roles(random):
                # Until it has found the store, it has a reason to refuse.
                await (await self._start(role)).store.link.there.wait()
            harms = Harms(world, Random(random.random()), self._start, self._given.harms)
            world.refuses |= self._weather != Weather()
            async with trio.open_nursery() as happening:
                happening.start_soon(harms.run)
                await _play(cast_of(world, random))
                harms.done.set()
            world.tell("world", "is quiet")
            await self._settle()
            self._nursery.cancel_scope.cancel()
        trio.lowlevel.remove_instrument(auditor)
        if auditor.broken is not None:
            raise BrokenPromiseError(auditor.broken)

    async def _start(self, role: Role) -> Process:
        return self._begin(role, self._settings)

    def _begin(self, role: Role, settings: Settings, *, listens: bool = True) -> Process:
        name = f"{role}{next(self._numbers)}"
        machine = Machine(Random(f"{self.world.seed}:{name}"), self._network)
        process = Process(
            name,
            role,
            settings,
            self.world.redis,
            machine,
            script=self._script,
            weather=self._weather,
            turns_s=self.world.habits.turns_s,
            faults=self._faults,
            make_id=lambda: f"job_{next(self._ids):032x}",
            listens=listens,
        )
        self.world.processes[name] = process
        if process.engine is not None:
            self.world.failed_on.append(process.engine.failed)
        self._nursery.start_soon(process.run)
        return process

    async def _settle(self) -> None:
        """All jobs end; nothing is left of them in any process and, in time, in the store."""
        world, processes = self.world, self.world.processes
        await _until(lambda: not world.book.unfinished(), 2 * world.settings.job_wall_s)
        world.expect(not world.book.unfinished(), f"without an end: {world.book.unfinished()}")
        await trio.sleep(world.settings.lease_s + 3)
        left = {name: found for name, each in processes.items() if (found := each.left())}
        world.expect(not _well(left, processes), f"left behind: {left}")
        for process in list(processes.values()):
            if not process.ended.is_set():
                await process.drain(0)
        self._weather = Weather()
        quiet = msgspec.structs.replace(world.settings, lease_s=JANITOR_LEASE_S)
        janitor = self._begin("edge", quiet, listens=False)
        await _until(self._is_empty, 2 * world.settings.job_keep_s + 100)
        await janitor.drain(0)
        # What is told to the dead is forgotten after a minute.
        await trio.sleep(JANITOR_LEASE_S)
        keys = world.redis.contents()
        world.expect(keys.keys() <= STAYS, f"keys are left: {keys}")
        totals = world.redis.ask("HVALS", "{penstock}:totals")
        world.expect(not any(map(int, totals)), f"counted still: {totals}")

    def _is_empty(self) -> bool:
        own = (b"{penstock}:alive:", b"{penstock}:wake:")
        return all(key in STAYS or key.startswith(own) for key in self.world.redis.contents())


def _well(left: dict[str, dict[str, int]], processes: dict[str, Process]) -> list[str]:
    return [name for name in left if not processes[name].ended.is_set()]


async def _until(condition: Callable[[], bool], most_s: float) -> None:
    """Or until so much time has passed."""
    with trio.move_on_after(most_s):
        while not condition():  # noqa: ASYNC110  # others know nothing of who waits here
            await trio.sleep(5)


async def _play(plays: Sequence[Play]) -> None:
    async with trio.open_nursery() as nursery:
        for play in plays:
            nursery.start_soon(play)


def _roles(random: Random) -> list[Role]:
    edges: list[Role] = random.choices(("edge", "edge", "all"), k=random.choice((1, 2, 3)))
    workers: list[Role] = ["worker"] * random.choice((1, 2, 2, 3))
    return [*edges, *workers]


def _habits(random: Random) -> Habits:
    paces = random.sample(PACES, random.randrange(1, len(PACES) + 1))
    return Habits(
        arrivals_s=random.choice((1, 3, 10)),
        paces=tuple(paces),
        impatience=random.choice((0, 0.3, 1)),
        turns_s=random.choice(((0, 0.001, 0.01), (0.01, 0.1), (0.05, 0.3))),
        haste=0.3,
    )


def _settings(random: Random) -> Settings:
    return build(
        {
            "store": "redis://redis/0",
            "slots": random.choice((1, 2, 3)),
            "queue": random.choice((2, 8, 30)),
            "lookahead": random.choice((0, 1, 2)),
            "park_grace_s": random.choice((0, 0.5)),
            "prefill_chunk": CHUNK,
            "job_window": random.choice((2, 4, 256)),
            "job_wall_s": 100,
            "job_keep_s": 120,
            "resume_window_s": 30,
            "max_jobs": random.choice((3, 100)),
            "heartbeat_s": 5,
            "stall_deadline_s": 10,
            "lease_s": random.choice((3, 10)),
        }
    )
