"""The blocking client, alone, within loops, and interrupted."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from penstock.client import ServerError
from penstock.client.blocking import Client
from penstock.errors import JOB_NOT_FOUND, MODEL_NOT_FOUND
from tests.wire.servers import Server, wait_until

pytestmark = pytest.mark.wire

BODY: dict[str, Any] = {"prompt": "Once upon a time", "ignore_eos": True, "seed": 7}


def read(server: Server) -> list[str]:
    with Client(server.url) as client, client.stream(**BODY, max_tokens=8) as tokens:
        return list(tokens)


def test_tokens_come_in_a_plain_loop(server: Server) -> None:
    with Client(server.url) as client:
        with client.stream(**BODY, max_tokens=8) as tokens:
            taken = list(tokens)
            assert (tokens.finish_reason, tokens.last_id) == ("length", 9)
            assert tokens.usage is not None
        assert client.job(tokens.job_id)["text"] == "".join(taken)
        with client.follow(tokens.job_id, after=3) as rest:
            assert list(rest) == taken[3:]
        assert [model["id"] for model in client.models()] == ["default"]


async def test_within_a_running_trio_loop(server: Server) -> None:
    assert len(read(server)) == 8


def test_within_a_running_asyncio_loop(server: Server) -> None:
    async def main() -> list[str]:
        return read(server)

    assert len(asyncio.run(main())) == 8


def test_a_loop_that_stops_stops_the_decoder(server: Server) -> None:
    with Client(server.url) as client:
        with client.stream(**BODY, max_tokens=250, window=4) as tokens:
            next(tokens)
            wait_until(lambda: server.gauge("parked") == 1, "parked sequence")
            assert client.job(tokens.job_id)["last_event_id"] <= 5
            next(tokens)
        assert client.job(tokens.job_id)["status"] == "cancelled"


def test_leaving_with_an_error_cancels_and_keeps_the_error(server: Server) -> None:
    with (
        server.endings() as ended,
        Client(server.url) as client,
        pytest.raises(ZeroDivisionError),
        client.stream(**BODY, max_tokens=250, window=4) as tokens,
    ):
        _ = 1 / (len(next(tokens)) * 0)
    assert ended == {"client": 1}


def test_an_interrupt_cancels_the_call_and_the_job(server: Server) -> None:
    """The last token that the window allows was taken, so the next one is waited for."""
    with Client(server.url) as client:
        job_id = client.submit(**BODY, max_tokens=250, window=1)
        with pytest.raises(KeyboardInterrupt), client.follow(job_id) as tokens:  # noqa: PT012
            next(tokens)
            threading.Timer(0.2, interrupt).start()
            next(tokens)
        assert client.job(job_id)["status"] == "running"
        assert client.cancel(job_id)["status"] == "cancelled"


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_errors_are_typed(server: Server) -> None:
    with Client(server.url) as client:
        with pytest.raises(ServerError) as caught, client.stream(**BODY, model="nobody"):
            pass
        assert caught.value.kind is MODEL_NOT_FOUND
        with pytest.raises(ServerError) as caught:
            client.acknowledge("job_nobody", 1)
        assert caught.value.kind is JOB_NOT_FOUND


def test_closing_ends_the_thread(server: Server) -> None:
    before = threading.active_count()
    client = Client(server.url)
    client.close()
    client.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        client.models()
