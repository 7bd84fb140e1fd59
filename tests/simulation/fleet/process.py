"""One server of several: an edge, a worker, or both in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from random import Random
from typing import Literal, TypeAlias, TypeVar, cast
from unittest import mock

import trio
from tokenizers import Tokenizer as Vocabulary

from penstock import build
from penstock.edge_service import EdgeService
from penstock.engine.engine import Engine
from penstock.engine.grammar import Grammars
from penstock.jobs.redis.address import Address
from penstock.jobs.redis.client import Client
from penstock.jobs.redis.store import RedisStore
from penstock.models import embedded_model
from penstock.served import Offered
from penstock.service import Service
from penstock.settings import Settings
from penstock.web.app import App

from ..edge import Edge
from ..scripted import Script, ScriptedEngine, TimedThread
from .connection import Connection, Weather
from .machine import Machine
from .redis import Redis

T = TypeVar("T")
Role: TypeAlias = Literal["edge", "worker", "all"]
ADDRESS = Address("redis", 6379)


class FreezingThread(TimedThread):
    """One that stands still with its process."""

    def __init__(self, machine: Machine, turns_s: tuple[float, ...]) -> None:
        super().__init__(Random(machine.random.random()), turns_s)
        self.turned = False
        """Whether anything was computed since somebody looked."""
        self._machine = machine

    async def run(self, function: Callable[[], T]) -> T:
        with trio.CancelScope(shield=True):
            await self._machine.awake()
        result = await super().run(function)
        self.turned = True
        return result


class Process:
    """`engine` is None where it decodes nothing, `edge` where nobody can connect to it."""

    def __init__(
        self,
        name: str,
        role: Role,
        settings: Settings,
        redis: Redis,
        machine: Machine,
        *,
        script: Script,
        weather: Weather,
        turns_s: tuple[float, ...],
        faults: float,
        make_id: Callable[[], str],
        listens: bool = True,
    ) -> None:
        self.name = name
        self.role = role
        self.machine = machine
        self.engine: ScriptedEngine | None = None
        self.thread: FreezingThread | None = None
        self.edge: Edge | None = None
        self.draining = False
        self.ended = trio.Event()
        self._settings = settings
        self._listens = listens and role != "worker"
        self._scope = trio.CancelScope()

        redis.machines.append(machine)

        async def connect(address: Address) -> Client:
            connection = Connection(redis, machine, weather)
            await connection.open()
            return connection

        common = build._common(settings)
        store = partial(RedisStore, ADDRESS, lease_s=settings.lease_s, line=settings.queue)
        common["make_store"] = partial(store, connect=connect)
        if role == "edge":
            offered = offer()
            self.service: Service = EdgeService([offered], **common)
        else:
            random = Random(machine.random.random())
            self.engine = ScriptedEngine(script, settings.slots, random, faults)
            self.thread = thread = FreezingThread(machine, turns_s)
            engine = cast("Engine", self.engine)
            tokenizer = offer().tokenizer
            with mock.patch.object(build, "Grammars", _share_grammars):
                served = build.serve_engine(settings, "default", engine, tokenizer, thread)
            self.service = Service([served], thread, **common)
        self.store = cast("RedisStore", self.service.jobs.store)
        # Names and numbers come from the operating system's randomness otherwise.
        self.store.link.me = name
        self.service.jobs.make_id = make_id

    def __repr__(self) -> str:
        return f"<Process {self.name}>"

    async def run(self) -> None:
        """Until it is killed, or stopped."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    if self._listens:
                        self.edge = Edge(App(self.service), self._settings, nursery)
                    await self.service.run()
        finally:
            self.ended.set()

    def kill(self) -> None:
        """As the kernel does: it says goodbye to nobody."""
        self.machine.kill()
        if self.edge is not None:
            self.edge.cut()
        self._scope.cancel()

    async def drain(self, drain_s: float) -> None:
        """As on SIGTERM."""
        self.draining = True
        if self.edge is not None:
            self.edge.drain()
        await self.service.drain(drain_s)
        if self.edge is not None:
            await trio.sleep(0.5)
        self._scope.cancel()
        await self.ended.wait()

    @property
    def well(self) -> bool:
        return not (self.machine.dead or self.machine.frozen or self.draining)

    @property
    def reachable(self) -> bool:
        return self.edge is not None and self.edge.open and not self.ended.is_set()

    def left(self) -> dict[str, int]:
        """What there is of anybody in it."""
        found = {
            "live": len(self.service._lives),
            "readers": self.service.jobs.store.held().readers,
            "watched": len(self.store._watch.logs),
            "keys": len(self.service.jobs._locks),
        }
        if self.engine is not None:
            served = self.service.default
            found |= {
                "places": served.admission.taken,
                "entering": served.admission.entering,
                "slots": served.decoder.schedule.active,
                "waiting": served.decoder.schedule.waiting,
                "evicted": served.decoder.schedule.evicted,
                "engine": len(self.engine.seated),
            }
        return {name: count for name, count in found.items() if count}


@cache
def _share_grammars(vocabulary: Vocabulary, words: int, eos_ids: tuple[int, ...]) -> Grammars:
    """What takes a tenth of a second to make, and nobody here has a use for."""
    return Grammars(vocabulary, words, eos_ids)


@cache
def offer() -> Offered:
    """What an edge knows of the model, whose words are those of the scripts."""
    return build.offer_model(Settings(), "default", embedded_model())
