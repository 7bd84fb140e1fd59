"""The client against a server process, over connections that are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import pytest
import trio

from penstock.client import Client, ServerError
from penstock.errors import CONTEXT_LENGTH, INVALID_VALUE, JOB_NOT_FOUND, MODEL_NOT_FOUND
from tests.wire.cutter import Cut, Cutter
from tests.wire.servers import Server, until

pytestmark = pytest.mark.wire

PROMPT = "Once upon a time"
BODY: dict[str, Any] = {"prompt": PROMPT, "ignore_eos": True, "temperature": 1, "seed": 7}
CUTS = 100


def cuts(seed: int) -> Iterator[Cut]:
    """Within a request, or at a byte of the answer behind some events."""
    random = Random(seed)
    for _ in range(CUTS):
        if random.random() < 0.1:
            yield Cut(up=random.randrange(80))
        else:
            yield Cut(down=random.randrange(900))


@pytest.mark.heavy
async def test_a_hundred_cuts_lose_and_double_nothing(server: Server) -> None:
    body = BODY | {"max_tokens": 200}
    async with Client(server.url) as client, client.stream(**body) as tokens:
        expected = [text async for text in tokens]
    cutter = Cutter(server, cuts(1))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(cutter.run)
            async with Client(f"http://127.0.0.1:{cutter.port}") as client:
                while cutter.made < CUTS:
                    async with client.stream(**body) as tokens:
                        assert [text async for text in tokens] == expected
                        assert tokens.last_id == len(expected) + 1
                        assert tokens.finish_reason == "length"
            nursery.cancel_scope.cancel()


async def test_leaving_the_block_frees_the_slot(server: Server) -> None:
    def idle() -> bool:
        return server.is_idle()

    def cancelled() -> float:
        return sum(
            value
            for key, value in server.metrics().items()
            if key.startswith("penstock_requests_cancelled_total:") and "client" in key
        )

    before = cancelled()
    async with Client(server.url) as client:
        async with client.stream(**BODY, max_tokens=250, window=4) as tokens:
            await anext(tokens)
        await until(idle, "idle server")
        assert (await client.job(tokens.job_id))["status"] == "cancelled"
    assert cancelled() == before + 1


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"max_tokens": 0}, INVALID_VALUE),
        ({"max_tokens": 10**6}, CONTEXT_LENGTH),
        ({"model": "nobody"}, MODEL_NOT_FOUND),
    ],
)
async def test_refusals_are_typed(server: Server, fields: dict[str, Any], kind: object) -> None:
    async with Client(server.url) as client:
        with pytest.raises(ServerError) as caught:
            await client.submit(**(BODY | fields))
    assert caught.value.kind is kind


async def test_a_job_is_followed_from_any_event(server: Server) -> None:
    async with Client(server.url) as client:
        job_id = await client.submit(**BODY, max_tokens=12)
        async with client.follow(job_id) as tokens:
            whole = [text async for text in tokens]
        async with client.follow(job_id, after=5) as tokens:
            assert [text async for text in tokens] == whole[5:]
        with pytest.raises(ServerError) as caught:
            await client.job("job_nobody")
    assert caught.value.kind is JOB_NOT_FOUND


@pytest.mark.parametrize("window", [1, 2, 5])
async def test_a_window_moves_as_tokens_are_taken(server: Server, window: int) -> None:
    async with Client(server.url) as client:
        with trio.fail_after(20):
            async with client.stream(**BODY, max_tokens=30, window=window) as tokens:
                taken = [await anext(tokens) for _ in range(11)]
                job_id = tokens.job_id
                await until(lambda: _made(server, job_id) > 11 - window, "events")
                assert _made(server, job_id) <= 11 + window
                taken += [text async for text in tokens]
        async with client.stream(**BODY, max_tokens=30) as tokens:
            assert taken == [text async for text in tokens]


async def test_a_follower_can_move_the_window(server: Server) -> None:
    async with Client(server.url) as client:
        job_id = await client.submit(**BODY, max_tokens=12, window=2)
        with trio.fail_after(20):
            async with client.follow(job_id, window=2) as tokens:
                assert len([text async for text in tokens]) == 12


async def test_a_submit_cancelled_in_flight_leaves_no_job(server: Server) -> None:
    """The job was made, but the answer with its id is on the way."""
    holder = Holder(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(holder.run)
        async with Client(f"http://127.0.0.1:{holder.port}") as client:
            with trio.CancelScope() as scope:
                nursery.start_soon(_when_active, server, scope.cancel)
                await client.submit(**BODY, max_tokens=250, window=4)
            assert scope.cancelled_caught
            await until(server.is_idle, "idle server")
        nursery.cancel_scope.cancel()
    (newest,) = server.ask("GET", "/v1/jobs?limit=1").json["data"]
    assert newest["status"] == "cancelled"


async def _when_active(server: Server, then: Callable[[], object]) -> None:
    await until(lambda: server.gauge("active") == 1, "a generation")
    then()


def _made(server: Server, job_id: str) -> int:
    count: int = server.ask("GET", f"/v1/jobs/{job_id}").json["last_event_id"]
    return count


class Holder:
    """A proxy whose first connection carries nothing back."""

    def __init__(self, server: Server) -> None:
        self.port = 0
        self._server = server
        self._holds = True

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, self._carry, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _carry(self, client: trio.SocketStream) -> None:
        holds, self._holds = self._holds, False
        server = await trio.open_tcp_stream(self._server.host, self._server.port)
        async with client, server, trio.open_nursery() as nursery:
            if not holds:
                nursery.start_soon(self._pass_on, server, client)
            await self._pass_on(client, server)
            nursery.cancel_scope.cancel()

    async def _pass_on(self, one: trio.SocketStream, other: trio.SocketStream) -> None:
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in one:
                await other.send_all(data)
