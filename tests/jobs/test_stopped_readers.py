"""Readers of an edge that stop: their worker, in another process, stops soon after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.redis_server import RedisServer
from tests.wire.raw import Raw, post
from tests.wire.servers import Server, until
from tests.wire.sockets import connect

from .fleet import Fleet
from .test_redis_served import BODY, last_id, reference, submit

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.heavy]

WINDOW, LOOKAHEAD = 6, 1
TOKENS = 300


@pytest.fixture
def fleet(redis: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, redis, stack)


def start_both(fleet: Fleet) -> tuple[Server, Server]:
    """The window is that of the process that makes a job."""
    edge = fleet.start("edge", f"--job-window={WINDOW}")
    return edge, fleet.start("worker", f"--lookahead={LOOKAHEAD}")


def computed(worker: Server, sequences: int) -> int:
    """Tokens that its model has made for so many sequences: the first of each is no step's."""
    return int(worker.gauge("decode_rows")) + sequences


def is_at(edge: Server, job_id: str, number: int) -> bool:
    return last_id(edge, job_id) == number


async def until_stopped(worker: Server, least: int) -> int:
    """What was computed, once that is `least` and the worker has been told to wait."""
    await until(lambda: computed(worker, 1) >= least, f"{least} tokens")
    await until(lambda: worker.gauge("parked") == 1, "parked sequence")
    return computed(worker, 1)


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_worker_stays_within_the_bound_of_a_reader_that_has_stopped(
    fleet: Fleet, *, resumable: bool
) -> None:
    """tokens computed - those written <= window + lookahead + 2, which is reached"""
    edge, worker = await trio.to_thread.run_sync(start_both, fleet)
    async with connect(edge) as peer:
        await peer.start(**BODY, max_tokens=TOKENS, credits=0, resumable=resumable)
        written = 0
        for more in (0, 1, 4, 25):
            if more:
                await peer.tell("pull", n=more)
                await peer.hear_tokens(more)
            written += more
            bound = written + WINDOW + LOOKAHEAD + 2
            assert await until_stopped(worker, bound) == bound


async def test_with_a_window_of_its_own_acknowledgements_count(fleet: Fleet) -> None:
    edge = await trio.to_thread.run_sync(fleet.start, "edge")
    start = partial(fleet.start, "worker", f"--lookahead={LOOKAHEAD}")
    worker = await trio.to_thread.run_sync(start)
    job_id = submit(edge, max_tokens=TOKENS, window=WINDOW)
    for acknowledged in (0, 3, 9):
        edge.ask("POST", f"/v1/jobs/{job_id}/ack", {"id": acknowledged})
        bound = acknowledged + WINDOW + LOOKAHEAD + 1
        assert await until_stopped(worker, bound) == bound


async def test_readers_that_stop_hold_up_nobody_and_stay_where_they_are(fleet: Fleet) -> None:
    edge, worker = await trio.to_thread.run_sync(start_both, fleet)
    expected = reference(edge, max_tokens=TOKENS)
    async with AsyncExitStack() as stack:
        stuck = stack.enter_context(Raw(edge, small=True))
        stuck.send(post("/v1/completions", BODY | {"max_tokens": 900, "stream": True}))
        peers = [await stack.enter_async_context(connect(edge)) for _ in range(6)]
        asked = BODY | {"credits": 0, "resumable": True}
        stopped = [(await peer.start(**asked))["job_id"] for peer in peers]
        for job_id in stopped:
            await until(partial(is_at, edge, job_id, 1 + WINDOW), f"event {1 + WINDOW}")
        for _ in range(5):
            assert reference(edge, max_tokens=TOKENS) == expected
        assert [last_id(edge, each) for each in stopped] == [1 + WINDOW] * len(stopped)
        for peer in peers:
            await peer.tell("cancel")
            assert (await peer.hear_terminal())["type"] == "cancelled"
    await until(worker.is_idle, "idle worker")
