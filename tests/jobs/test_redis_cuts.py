"""A thousand connections cut between any two bytes, each one made to another edge than the last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import cast

import pytest
import trio

from tests.redis_server import RedisServer
from tests.wire.servers import Server
from tests.wire.test_cuts import (
    CLIENTS,
    CUTS,
    EventReader,
    Reader,
    SocketReader,
    any_byte,
    read_through,
    submit,
)

from .fleet import Fleet

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.heavy]


class InTurn:
    """Stands for several servers: each connection goes to the next one."""

    host = "127.0.0.1"

    def __init__(self, servers: Sequence[Server]) -> None:
        self._ports = cycle([server.port for server in servers])

    @property
    def port(self) -> int:
        return next(self._ports)


@pytest.fixture
def edges(redis: RedisServer, tmp_path: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        fleet = Fleet(tmp_path, redis, stack, lease_s=10)
        fleet.start("worker")
        # All jobs stand in line at once.
        yield [fleet.start("edge", f"--queue={2 * CLIENTS}") for _ in range(2)]


async def test_nothing_is_lost_or_doubled_by_a_thousand_cuts(edges: list[Server]) -> None:
    jobs = [submit(edges[number % 2], number) for number in range(2 * CLIENTS)]
    events = [EventReader(f"/v1/stream?job_id={job_id}") for job_id in jobs[:CLIENTS]]
    sockets = [SocketReader(job_id) for job_id in jobs[CLIENTS:]]
    # One that both directions notice is counted twice.
    assert await _read_all([*events, *sockets], edges) >= 2 * CLIENTS * CUTS == 1000
    for job_id, reader in zip(jobs, events, strict=False):
        whole = EventReader(f"/v1/stream?job_id={job_id}")
        await whole.run(edges[0].port)
        assert reader.events == whole.events
        assert reader.numbers == list(range(1, len(reader.events) + 1))
    for socket in sockets:
        again = SocketReader(socket.job_id)
        await again.run(edges[1].port)
        assert socket.heard == again.heard
        told = [json.loads(message) for message in socket.heard]
        assert [each["seq"] for each in told] == list(range(1, len(told) + 1))
        assert told[-1]["type"] == "complete"


async def _read_all(readers: Sequence[Reader], edges: Sequence[Server]) -> int:
    made: list[int] = []
    # The cutter asks a server for nothing but where it is.
    in_turn = cast("Server", InTurn(edges))

    async def read(seed: int, reader: Reader) -> None:
        made.append(await read_through(in_turn, any_byte(seed), reader))

    async with trio.open_nursery() as nursery:
        for seed, reader in enumerate(readers):
            nursery.start_soon(read, seed, reader)
    return sum(made)
