"""The application under stock Hypercorn: what works there, and what `penstock serve` cures.

The probes are those of the other files. Each is expected to fail here, strictly: when upstream
mends one, its test says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
import pytest
from openai import OpenAI

from .asked import LONG_BODY, PROMPT
from .http2 import Http2Client
from .raw import BINARY, HANDSHAKE, TEXT, Raw, frame, http2, post, start
from .servers import Server, StockServer, wait_until
from .test_http2 import PATH, SHORT, STREAMED

Start = Callable[..., StockServer]
Test = TypeVar("Test", bound=Callable[..., None])

LARGE_MESSAGE = frame(TEXT, b"x" * ((16 << 20) + 1))


def uncured(test: Test) -> Test:
    """Heavy, because upstream changes with its version only."""
    marked: Test = pytest.mark.heavy(pytest.mark.xfail(strict=True, raises=AssertionError)(test))
    return marked


@pytest.fixture
def start_stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    folder = tmp_path_factory.mktemp("stock")
    started: list[StockServer] = []

    def start(*options: str) -> StockServer:
        started.append(StockServer(folder / f"log{len(started)}", *options))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.stop()


def test_it_is_served(start_stock: Start) -> None:
    server = start_stock("--max-tokens=7")
    with OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        stream = client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")
    with httpx.Client(base_url=server.url) as plain:
        assert plain.get("/ready").json() == {"status": "ready"}
    with server.endings() as ended, Raw(server) as peer:
        peer.send(HANDSHAKE)
        peer.read_until(b"\r\n\r\n")
        peer.send(start({**SHORT, "credits": 0}))
        peer.read_until(b'"started"')
        peer.reset()
    assert ended == {"disconnect": 1}


def test_a_setting_that_cannot_be_used_is_named() -> None:
    command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-w", "0", "-b", "127.0.0.1:0"]
    environ = {**os.environ, "PENSTOCK_SLOTS": "0", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [*command, "penstock.asgi:app"],
        capture_output=True,
        check=False,
        env=environ,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "slots: expected int >= 1" in done.stderr


@uncured
@pytest.mark.parametrize(
    "probe",
    [
        [(b"", http2(b"GET", b"/\xff"))],
        [(b"", http2(b"\xff", b"/"))],
        [(b"", HANDSHAKE), (b"\r\n\r\n", LARGE_MESSAGE), (b"\x88", frame(BINARY, b"more"))],
        [(b"", HANDSHAKE + start(dict(SHORT)))],
    ],
    ids=["path", "method", "frame behind a large message", "frame before the answer"],
)
def test_one_connection_cannot_end_the_process(
    start_stock: Start, probe: list[tuple[bytes, bytes]]
) -> None:
    """Each piece is sent when the mark before it has been seen."""
    server = start_stock()
    with Raw(server) as peer:
        for mark, piece in probe:
            if mark:
                peer.read_until(mark)
            peer.send(piece)
        peer.half_close()
        peer.read_all()
    assert is_serving(server)


def is_serving(server: Server) -> bool:
    try:
        return server.ask("GET", "/health").status == 200
    except OSError:
        return False


@uncured
def test_http2_stream_that_is_not_read_is_parked(start_stock: Start) -> None:
    server = start_stock()
    with Http2Client(server, window=2000) as client:
        client.stopped.add(1)
        client.ask("POST", PATH, {**STREAMED, "max_tokens": 900})
        client.pump(lambda: len(client.body[1]) == 2000)
        assert not decodes_to_the_end(server, 900)


def decodes_to_the_end(server: Server, tokens: int) -> bool:
    try:
        wait_until(lambda: server.gauge("decode_steps") >= tokens - 1, "end")
    except AssertionError:
        return False
    return True


@uncured
def test_reader_that_stops_is_ended(start_stock: Start) -> None:
    server = start_stock("--stall-deadline-s=0.3")
    with Raw(server, small=True) as peer:
        peer.send(post(PATH, {**STREAMED, "max_tokens": 950}))
        server.wait_gauge("parked", 1)
        wait_until(server.is_idle, "idle server", patience_s=3)


@uncured
def test_idle_connection_is_closed(start_stock: Start) -> None:
    server = start_stock()
    with Raw(server) as peer:
        peer.socket.settimeout(3)
        peer.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        peer.read_until(b"\r\n\r\n")
        assert is_closed(peer)


def is_closed(peer: Raw) -> bool:
    try:
        return not peer.read_all()
    except TimeoutError:
        return False


@uncured
def test_streams_are_told_why_they_end(start_stock: Start) -> None:
    server = start_stock()
    with Raw(server) as peer:
        peer.send(post(PATH, {**LONG_BODY, "prompt": PROMPT, "stream": True, "max_tokens": 990}))
        peer.read_until(b"data: ")
        server.process.terminate()
        assert b'"code":"unavailable"' in peer.read_all()
