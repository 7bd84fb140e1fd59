"""Sixteen streams through two edges, while workers, edges and Redis die, or fall asleep.

`PENSTOCK_KILLS` says how often each of them does.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

import httpx
import pytest
import trio

from tests.redis_server import RedisServer
from tests.wire.servers import Server, until

from .fleet import Fleet, kill

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.heavy]

KILLS = int(os.environ.get("PENSTOCK_KILLS", "1"))
STREAMS = 16
SEEDS = range(4)
TOKENS = 200
LEASE_S = 1
ARRIVING_S = 0.2
"""After that, what a process had sent when it was stopped has been done."""
PATIENCE_S = 60
BODY = {"prompt": "Once upon a time", "max_tokens": TOKENS, "ignore_eos": True}


class World:
    """Two edges and two workers, each replaced when it dies."""

    def __init__(self, fleet: Fleet, redis: RedisServer) -> None:
        self.fleet = fleet
        self.redis = redis
        self.edges = [fleet.start("edge") for _ in range(2)]
        self.workers = [fleet.start("worker") for _ in range(2)]
        self.references: dict[int, str] = {}
        self.done = 0
        self.taken_over = 0

    async def kill_worker(self, random: Random) -> None:
        await self._replace(self.workers, "worker", random)

    async def kill_edge(self, random: Random) -> None:
        await self._replace(self.edges, "edge", random)

    async def stop_worker(self, random: Random) -> None:
        """For longer than its lease. When it wakes up it hears of each job that was taken over."""
        busy: list[Server] = []
        while not busy:  # one worker has slots for all; the other one then has nothing to lose
            active = [await trio.to_thread.run_sync(w.gauge, "active") for w in self.workers]
            busy = [w for w, rows in zip(self.workers, active, strict=True) if rows]
        worker = random.choice(busy)
        worker.signal(signal.SIGSTOP)
        await trio.sleep(ARRIVING_S)
        before = {job_id: self._writer(job_id) for job_id in self._running()}
        await until(lambda: any(self._taken(before)), "takeover")
        await trio.sleep(LEASE_S)
        taken = self._taken(before)
        worker.signal(signal.SIGCONT)
        for job_id in taken:
            await until(partial(_has_lost, worker, job_id), f"insight into {job_id}")
        self.taken_over += len(taken)

    def _running(self) -> list[str]:
        """Jobs that somebody is writing. One that was only taken is given back without a line."""
        told = self.redis.ask("ZRANGE", "{penstock}:leases:default", "0", "-1").decode()
        leased = [word for word in told.split() if word.startswith("job_")]
        return [job_id for job_id in leased if self._field(job_id, "last") != b"$1\r\n0\r\n"]

    def _taken(self, before: Mapping[str, bytes]) -> list[str]:
        return [job_id for job_id, writer in before.items() if self._writer(job_id) != writer]

    def _writer(self, job_id: str) -> bytes:
        return self._field(job_id, "holder")

    def _field(self, job_id: str, name: str) -> bytes:
        return self.redis.ask("HGET", f"{{penstock}}:job:{job_id}", name)

    async def kill_redis(self, random: Random) -> None:
        self.redis.kill()
        await trio.sleep(random.random() / 2)
        await trio.to_thread.run_sync(self.redis.start)

    async def _replace(self, servers: list[Server], role: str, random: Random) -> None:
        victim = servers.pop(random.randrange(len(servers)))
        kill(victim)
        servers.append(await trio.to_thread.run_sync(self.fleet.start, role))

    def url(self, random: Random) -> str:
        return random.choice(self.edges).url


def _has_lost(worker: Server, job_id: str) -> bool:
    """Whether it was told that it writes this job no more."""
    lines = worker.log().splitlines()
    return any("another process goes on" in line and job_id in line for line in lines)


class Client:
    """Submits jobs and reads each to its end, over as many connections and edges as that takes."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._random = Random(number)
        self._number = number
        self.jobs = 0

    async def run(self, stopped: trio.Event) -> None:
        async with httpx.AsyncClient(timeout=10) as http:
            while not stopped.is_set():
                seed = self._random.choice(SEEDS)
                with trio.fail_after(PATIENCE_S):
                    text = await self._once(http, seed)
                assert text == self._world.references[seed]
                self.jobs += 1
                self._world.done += 1

    async def _once(self, http: httpx.AsyncClient, seed: int) -> str:
        job_id = await self._submit(http, seed)
        events: list[dict[str, object]] = []
        while not events or "finish_reason" not in events[-1]:
            try:
                await self._read(http, job_id, events)
            except httpx.HTTPError:
                await trio.sleep(0.05)
        return "".join(str(event.get("text", "")) for event in events)

    async def _submit(self, http: httpx.AsyncClient, seed: int) -> str:
        headers = {"Idempotency-Key": f"{self._number}-{self.jobs}"}
        while True:
            try:
                url = f"{self._world.url(self._random)}/v1/jobs"
                answer = await http.post(url, json=BODY | {"seed": seed}, headers=headers)
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code in (200, 202):
                job_id: str = answer.json()["job_id"]
                return job_id
            assert answer is None or answer.status_code == 429, answer.text
            await trio.sleep(0.1)

    async def _read(
        self, http: httpx.AsyncClient, job_id: str, events: list[dict[str, object]]
    ) -> None:
        url = f"{self._world.url(self._random)}/v1/stream?job_id={job_id}"
        told = {"Last-Event-ID": str(len(events))} if events else {}
        async with http.stream("GET", url, headers=told) as response:
            if response.status_code != 200:
                assert response.status_code == 429, response.status_code
                await trio.sleep(0.1)
                return
            number = 0
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    assert number == len(events) + 1, "an event was lost or came twice"
                    events.append(json.loads(line[6:]))
                    assert "error" not in events[-1], events[-1]


@pytest.fixture
def world(durable_redis: RedisServer, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(Fleet(tmp_path, durable_redis, stack, lease_s=LEASE_S), durable_redis)


Harm = Callable[[World, Random], Awaitable[None]]


@pytest.mark.parametrize(
    "harm",
    [World.kill_worker, World.stop_worker, World.kill_edge, World.kill_redis],
    ids=lambda harm: harm.__name__,
)
async def test_nothing_is_lost_and_nothing_comes_twice(world: World, harm: Harm) -> None:
    for seed in SEEDS:
        told = await trio.to_thread.run_sync(
            partial(world.edges[0].ask, "POST", "/v1/completions", BODY | {"seed": seed})
        )
        world.references[seed] = told.json["choices"][0]["text"]
    clients = [Client(world, number) for number in range(STREAMS)]
    stopped, random = trio.Event(), Random(harm.__name__)
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.run, stopped)
        for _ in range(KILLS):
            await trio.sleep(0.3 + random.random())
            await harm(world, random)
        stopped.set()
    assert world.done >= STREAMS
    assert world.taken_over or harm is not World.stop_worker
    figures = f"{KILLS} times, {world.done} jobs, {world.taken_over} taken from sleepers"
    print(f"{harm.__name__}: {figures}")  # noqa: T201
