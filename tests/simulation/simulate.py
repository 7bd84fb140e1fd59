"""One seeded world: a server, its clients, its faults, and what must hold all the while."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from random import Random
from typing import cast
from unittest import mock

import trio
from trio.testing import wait_all_tasks_blocked

from penstock import pipeline
from penstock.build import assemble
from penstock.engine.engine import Engine
from penstock.settings import Settings, build
from penstock.web.app import App

from .auditor import Auditor
from .casting import Play, cast_of
from .edge import Edge
from .scripted import CHUNK, Script, ScriptedEngine, TimedThread
from .story import Story, tell, words
from .world import PACES, BrokenPromiseError, Habits, ServerWorld

PATIENCE_S = 4000
"""Of virtual time, for a whole world."""


def run(seed: int) -> Story:
    """Live through one world. The same seed gives the same story."""
    return tell(seed, _live)


async def _live(seed: int, lines: list[str]) -> None:
    random = Random(seed)
    tokenizer = words()
    settings, habits = _settings(random), _habits(random)
    faults = random.choice((0, 0, 0.02))
    engine = ScriptedEngine(Script(tokenizer), settings.slots, Random(random.random()), faults)
    service = assemble(settings, "default", cast("Engine", engine), tokenizer)
    service.default.decoder.thread = TimedThread(Random(random.random()), habits.turns_s)
    numbers = count(1)
    service.jobs.make_id = lambda: f"job_{next(numbers):032x}"
    app = App(service)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as service_nursery:
            service_nursery.start_soon(service.run)
            await wait_all_tasks_blocked()
            tasks = trio.lowlevel.current_statistics().tasks_living
            async with trio.open_nursery() as connections:
                edge = Edge(app, settings, connections)
                world = ServerWorld(
                    seed=seed,
                    script=engine.script,
                    tokenizer=tokenizer,
                    settings=settings,
                    habits=habits,
                    lines=lines,
                    app=app,
                    engine=engine,
                    edge=edge,
                )
                auditor = Auditor(world.app, engine, settings, service_nursery.cancel_scope)
                trio.lowlevel.add_instrument(auditor)
                with mock.patch.object(pipeline, "run", auditor.watch(pipeline.run)):
                    await _play(world, cast_of(world, random), random)
                    connections.cancel_scope.cancel()
            await _settle(world)
            left = trio.lowlevel.current_statistics().tasks_living - tasks
            world.expect(left == 0, f"{left} tasks are left")
            service_nursery.cancel_scope.cancel()
        if auditor.broken is not None:
            raise BrokenPromiseError(auditor.broken)


async def _play(world: ServerWorld, clients: Sequence[Play], random: Random) -> None:
    drain_at_s = random.uniform(0, 40) if random.random() < 0.25 else None
    async with trio.open_nursery() as nursery:
        if drain_at_s is not None:
            nursery.start_soon(_drain, world, drain_at_s, random.choice((0, 1, 20)))
        for client in clients:
            nursery.start_soon(client)


async def _drain(world: ServerWorld, at_s: float, drain_s: float) -> None:
    await trio.sleep(at_s)
    world.tell("server", f"drains for {drain_s} s")
    world.draining = True
    world.edge.drain()
    await world.app.service.drain(drain_s)
    await trio.sleep(0.5)
    world.tell("server", "cuts all connections")
    world.edge._nursery.cancel_scope.cancel()


async def _settle(world: ServerWorld) -> None:
    """After a while nothing is left of anybody."""
    await trio.sleep(world.settings.job_wall_s + 2 * world.settings.job_keep_s + 60)
    service = world.app.service
    held = service.jobs.store.held()
    schedule = service.default.decoder.schedule
    left = {
        "places": service.default.admission.taken,
        "entering": service.default.admission.entering,
        "slots": schedule.active,
        "waiting": schedule.waiting,
        "evicted": schedule.evicted,
        "live": len(service._lives),
        "jobs": held.jobs,
        "running": held.running,
        "readers": held.readers,
        "bytes": held.log_bytes,
        "engine": len(world.engine.seated),
        "keys": len(service.jobs._locks),
    }
    world.expect(not any(left.values()), f"left behind: {left}")


def _habits(random: Random) -> Habits:
    paces = random.sample(PACES, random.randrange(1, len(PACES) + 1))
    return Habits(
        arrivals_s=random.choice((1, 5, 30)),
        paces=tuple(paces),
        impatience=random.choice((0, 0.3, 1)),
        turns_s=random.choice(((0, 0.001, 0.01), (0.01, 0.3), (0.5, 1.5))),
    )


def _settings(random: Random) -> Settings:
    return build(
        {
            "slots": random.choice((1, 2, 3)),
            "queue": random.choice((2, 8, 30)),
            "lookahead": random.choice((0, 1, 2)),
            "park_grace_s": random.choice((0, 0.5)),
            "prefill_chunk": CHUNK,
            "job_window": random.choice((2, 4, 256)),
            "job_wall_s": 300,
            "job_keep_s": 600,
            "resume_window_s": 30,
            "max_jobs": random.choice((3, 100)),
            "heartbeat_s": 5,
            "stall_deadline_s": 20,
        }
    )
