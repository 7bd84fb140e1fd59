"""The client against a server process, over connections that are cut."""

from __future__ import annotations

from collections.abc import Iterator
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
