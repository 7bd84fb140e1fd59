"""What a store that was away must not do to those who were there all the while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import trio
from trio.testing import MockClock

from penstock.events import Event, Finished
from penstock.jobs.redis.address import Address
from penstock.jobs.redis.client import Client
from penstock.jobs.redis.store import RedisStore
from penstock.jobs.replay import Replay
from penstock.settings import build
from tests.jobs.stores import BOUNDS, DONE, delta, deltas, job, opened

from .fleet.connection import Connection, Weather
from .fleet.machine import Machine
from .fleet.process import Process
from .fleet.redis import Redis, read_sources, virtual_clock
from .scripted import Script
from .story import words
from .wire import Exchange, Pace

LEASE_S = 3


@asynccontextmanager
async def joined(redis: Redis, machine: Machine) -> AsyncIterator[RedisStore]:

    async def connect(address: Address) -> Client:
        connection = Connection(redis, machine, Weather())
        await connection.open()
        return connection

    store = RedisStore(Address("redis", 6379), BOUNDS, lease_s=LEASE_S, connect=connect)
    redis.machines.append(machine)
    async with opened(store):
        yield store


async def test_a_reader_keeps_what_it_reads_while_the_store_is_away_for_longer_than_a_lease(
    autojump_clock: MockClock,
) -> None:
    got: list[Event] = []
    emit = partial(_take_slowly, got)
    with virtual_clock():
        redis = Redis(read_sources(), lambda *told: None)
        async with (
            trio.open_nursery() as network,
            joined(redis, slow := Machine(Random(1), network)) as edge,
            joined(redis, Machine(Random(2), network)) as worker,
        ):
            log = await worker.create(job(keep_s=1, unread_s=100))
            epoch = await log.claim()
            found = await edge.find(log.job.job_id)
            assert found is not None
            async with trio.open_nursery() as readers:
                readers.start_soon(Replay(found, 0), emit)
                await log.append(epoch, delta(1))
                await trio.sleep(LEASE_S / 10)
                for event in (*deltas(2, 3), DONE):
                    await log.append(epoch, event)
                await trio.sleep(LEASE_S / 10)
                redis.stop()
                await trio.sleep(2 * LEASE_S)
                slow.freeze()
                redis.start()
                await trio.sleep(LEASE_S / 3)
                slow.thaw()
            network.cancel_scope.cancel()
    assert got == deltas(1, 2, 3)


async def _take_slowly(got: list[Event], event: Event) -> None:
    assert not isinstance(event, Finished)
    await trio.sleep(2 * LEASE_S)
    got.append(event)


async def test_one_who_resumes_while_the_store_is_away_is_not_told_to_stop(
    autojump_clock: MockClock,
) -> None:
    settings = build({"role": "edge", "store": "redis://redis"})
    with virtual_clock():
        redis = Redis(read_sources(), lambda *told: None)
        redis.stop()
        async with trio.open_nursery() as network:
            process = Process(
                "edge",
                "edge",
                settings,
                redis,
                Machine(Random(1), network),
                script=Script(words()),
                weather=Weather(),
                turns_s=(0,),
                faults=0,
                make_id=str,
            )
            network.start_soon(process.run)
            await trio.sleep(1)
            assert process.edge is not None
            exchange = Exchange(process.edge.connect(4096), Pace())
            headers = {"last-event-id": f"job_{1:032x}:1"}
            await exchange.ask("GET", "/chat/stream?prompt=x", headers=headers)
            told = await exchange.json()
            network.cancel_scope.cancel()
    assert (exchange.status, told["error"]["code"]) == (429, "unavailable")
