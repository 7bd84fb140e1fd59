"""Signals, drain and what cannot be started. Every test has servers of its own."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import pytest
import trio

from .asked import LONG_BODY, PROMPT
from .http2 import Http2Client
from .raw import Raw, post
from .servers import Server, run_serve, until, wait_until
from .sockets import connect
from .test_http2_probes import goaway_code

Start = Callable[..., Server]

pytestmark = pytest.mark.heavy

DRAIN_S = 0.3
SLACK_S = 2.0
"""A second for last words, and one for the interpreter to end on a busy machine."""

STREAMED = {**LONG_BODY, "stream": True}
SHORT = {"prompt": PROMPT, "max_tokens": 20, "ignore_eos": True}


class Ending:
    """Sends a signal; leaving the block waits for the end, which must be good and in time."""

    def __init__(self, server: Server, number: Signals, *, drain_s: float) -> None:
        self._server = server
        self._number = number
        self._limit_s = drain_s + SLACK_S

    def __enter__(self) -> None:
        self._started = time.monotonic()
        self._server.signal(self._number)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            assert self._server.wait() == 0, self._server.log()
            assert time.monotonic() - self._started < self._limit_s
            assert "Traceback" not in self._server.log()


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
async def test_every_stream_gets_a_terminal_event(start_server: Start, number: Signals) -> None:
    server = start_server("--drain-s=0")
    with Raw(server) as stream, Raw(server) as whole:
        async with connect(server) as running, connect(server) as idle:
            stream.send(post("/v1/completions", STREAMED))
            whole.send(post("/v1/completions", LONG_BODY))
            await running.start()
            stream.read_until(b"data: ")
            server.wait_active(3)
            with Ending(server, number, drain_s=0):
                terminal = await running.hear_terminal()
                assert terminal["error"]["code"] == "unavailable"
                assert terminal["error"]["retry_after"] >= 1
                assert await running.close_code() == 1001
                assert await idle.close_code() == 1001
                events, answer = stream.read_all(), whole.read_all()
    assert b'data: {"error":' in events.split(b"\n\n")[-2]
    assert b'"code":"unavailable"' in events
    assert b"[DONE]" not in events
    assert events.endswith(b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 429")
    assert b"retry-after: " in answer.lower()


async def test_parked_stream_is_ended_after_the_drain(start_server: Start) -> None:
    server = start_server(f"--drain-s={DRAIN_S}")
    async with connect(server) as parked:
        await parked.start(credits=0)
        started = time.monotonic()
        with Ending(server, SIGTERM, drain_s=DRAIN_S):
            assert (await parked.hear_terminal())["error"]["code"] == "unavailable"
            assert time.monotonic() - started >= DRAIN_S
            assert await parked.close_code() == 1001


def test_reader_that_has_stopped_does_not_hold_the_server(start_server: Start) -> None:
    server = start_server(f"--drain-s={DRAIN_S}")
    with Raw(server, small=True) as stream:
        stream.send(post("/v1/completions", STREAMED))
        server.wait_gauge("parked", 1)
        with Ending(server, SIGTERM, drain_s=DRAIN_S):
            pass


async def test_streams_that_can_finish_do(start_server: Start) -> None:
    server = start_server("--drain-s=60")
    with Raw(server) as stream:
        async with connect(server) as peer:
            stream.send(post("/v1/completions", {**STREAMED, "max_tokens": 200}))
            await peer.start(**SHORT, credits=1)
            await peer.hear_tokens(1)
            stream.read_until(b"data: ")
            with Ending(server, SIGTERM, drain_s=3):
                await peer.tell("pull", n=100)
                assert (await peer.hear_terminal())["type"] == "complete"
                assert b"data: [DONE]\n\n" in stream.read_all()


async def read_into(told: list[bytes], stream: Raw) -> None:
    told.append(await trio.to_thread.run_sync(stream.read_all))


@pytest.mark.parametrize("stalled", [0, 5])
async def test_fifty_streams_are_all_told(start_server: Start, stalled: int) -> None:
    """None of them can come to its end before: small buffers and few credits hold all of them."""
    server = start_server(f"--drain-s={DRAIN_S}", "--send-buffer-bytes=4096", "--slots=4")
    async with AsyncExitStack() as stack:
        deaf = [stack.enter_context(Raw(server, small=True)) for _ in range(stalled)]
        streams = [stack.enter_context(Raw(server, small=True)) for _ in range(25)]
        sockets = [await stack.enter_async_context(connect(server)) for _ in range(25)]
        for stream in deaf:
            stream.send(post("/v1/completions", STREAMED))
        wait_until(lambda: server.gauge("parked") + server.gauge("evicted") >= stalled, "stall")
        for stream in streams:
            stream.send(post("/v1/completions", STREAMED))
        for each in sockets:
            await each.start(credits=50)
        wait_until(lambda: server.gauge("live") == 50 + stalled, "all streams")
        told: list[bytes] = []
        with Ending(server, SIGTERM, drain_s=DRAIN_S):
            # All at once: one that is not read is cut.
            async with trio.open_nursery() as readers:
                for stream in streams:
                    readers.start_soon(read_into, told, stream)
            terminals = [await each.hear_terminal() for each in sockets]
            codes = [await each.close_code() for each in sockets]
    assert [b'"code":"unavailable"' in each for each in told] == [True] * 25
    assert [each["error"]["code"] for each in terminals] == ["unavailable"] * 25
    assert codes == [1001] * 25


def test_http2_streams_may_finish_or_are_told(start_server: Start) -> None:
    """What comes is read as bytes: the h2 package widens no window behind a GOAWAY."""
    server = start_server("--drain-s=1")
    with Http2Client(server, window=60_000) as client:
        brief, deaf = {**STREAMED, "max_tokens": 100}, {**STREAMED, "max_tokens": 950}
        for body in (brief, deaf):
            client.ask("POST", "/v1/completions", body)
        server.wait_active(2)
        with Ending(server, SIGTERM, drain_s=1):
            events = client.read_all()
    assert goaway_code(events) == 0
    assert events.count(b"data: [DONE]") == 1


def test_http2_connection_without_streams_ends_at_once(start_server: Start) -> None:
    server = start_server("--drain-s=60")
    with Http2Client(server) as client:
        assert client.fetch("GET", "/health")[0] == 200
        with Ending(server, SIGTERM, drain_s=0):
            client.pump_to_end()
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 1


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
async def test_a_second_signal_ends_at_once(start_server: Start, number: Signals) -> None:
    server = start_server("--drain-s=60")
    async with connect(server) as parked:
        await parked.start(credits=0)
        server.signal(SIGTERM)
        await until(lambda: not is_listening(server), "drain")
        with Ending(server, number, drain_s=0):
            pass


def is_listening(server: Server) -> bool:
    try:
        Raw(server).socket.close()
    except OSError:
        return False
    return True


class KeptAlive:
    """A connection that was there before the drain began."""

    def __init__(self, server: Server) -> None:
        self.connection = HTTPConnection(server.host, server.port, timeout=5)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


async def test_draining_server_says_so_and_a_second_signal_ends_it(start_server: Start) -> None:
    server = start_server("--drain-s=60")
    kept = KeptAlive(server)
    assert kept.ask("GET", "/ready") == (200, {"status": "ready"})
    async with connect(server) as parked:
        await parked.start(credits=0)
        server.signal(SIGTERM)
        await until(lambda: kept.ask("GET", "/ready")[0] == 503, "503 from /ready")
        assert kept.ask("GET", "/ready")[1]["reason"] == "draining"
        status, told = kept.ask("POST", "/v1/completions", SHORT)
        assert (status, told["error"]["code"]) == (429, "unavailable")
        with pytest.raises(OSError, match="refused"):
            Raw(server)
        with Ending(server, SIGTERM, drain_s=0):
            await parked.ended.wait()
    kept.connection.close()


def test_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run_serve(f"--port={port}")
    assert code == 1
    assert said.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said


@pytest.mark.parametrize("model", ["nowhere", "name=nowhere", "."])
def test_wrong_model_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run_serve(f"--model={model}", "--port=0")
    assert code == 1
    assert said.count("\n") == 1
    assert said.startswith("Error: ")
