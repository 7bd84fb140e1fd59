"""Peers that are slow, silent or gone without a word: each ends in its time, and is named."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from .asked import LONG_BODY, PROMPT
from .http2 import Http2Client
from .raw import HANDSHAKE, Raw, frame, post, start
from .servers import Server, wait_until
from .test_http2 import PATH, SHORT, STREAMED

Start = Callable[..., Server]

pytestmark = pytest.mark.heavy

PROMPTLY_S = 3.0
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="drops packets with a BPF filter")


class InTime:
    """Leaving the block within `limit_s`."""

    def __init__(self, limit_s: float = PROMPTLY_S) -> None:
        self._limit_s = limit_s

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            assert time.monotonic() - self._started < self._limit_s


@pytest.mark.parametrize("head", [b"P", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_head_that_trickles_is_refused(start_server: Start, head: bytes) -> None:
    server = start_server("--head-deadline-s=0.3")
    with Raw(server) as peer, InTime():
        peer.send(head)
        wait_until(lambda: trickle(peer), "last words")
        assert peer.read_all().startswith(b"HTTP/1.1 408 ")


def trickle(peer: Raw) -> bool:
    """One more byte; True when the server has answered."""
    peer.send(b"x")
    peer.socket.settimeout(0.02)
    try:
        return bool(peer.socket.recv(1, 2))
    except TimeoutError:
        return False
    finally:
        peer.socket.settimeout(10)


def test_second_head_that_trickles_is_refused(start_server: Start) -> None:
    server = start_server("--head-deadline-s=0.3")
    with Raw(server) as peer, InTime():
        peer.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        peer.read_until(b"\r\n\r\n")
        peer.send(b"GET /hea")
        assert peer.read_all().startswith(b"HTTP/1.1 408 ")


def test_connection_that_says_nothing_is_closed(start_server: Start) -> None:
    server = start_server("--head-deadline-s=0.3")
    with Raw(server) as peer, InTime():
        assert peer.read_all() == b""


@pytest.mark.parametrize("path", ["/health", "/metrics", "/nowhere", PATH])
def test_idle_connection_is_closed_after_any_answer(start_server: Start, path: str) -> None:
    """An application that cancels itself on `http.disconnect` left connections open for ever."""
    server = start_server("--keep-alive-s=0.3")
    with Raw(server) as peer, InTime():
        peer.send(post(path, SHORT))
        assert peer.read_all().startswith(b"HTTP/1.1 ")


def test_body_that_trickles_is_refused(start_server: Start) -> None:
    server = start_server("--body-deadline-s=0.3")
    with server.endings() as ended, Raw(server) as peer, InTime():
        peer.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        said = peer.read_until(b"}}")
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in said
    assert ended.total() == 0


def test_body_that_trickles_over_http2_is_refused(start_server: Start) -> None:
    server = start_server("--body-deadline-s=0.3")
    with Http2Client(server) as client, InTime():
        assert client.read(client.ask("POST", PATH, b"{", end=False))[0] == 408
        assert client.fetch("GET", "/health")[0] == 200


def test_reader_below_the_pace_is_stalled(start_server: Start) -> None:
    """Each of its writes is in time."""
    server = start_server(
        "--stall-deadline-s=1", "--min-drain-bytes-s=1000000", "--send-buffer-bytes=4096"
    )
    with server.endings() as ended, Raw(server, small=True) as peer:
        peer.send(post(PATH, {**STREAMED, "max_tokens": 950}))
        while server.gauge("live") or not server.gauge("decode_steps"):
            peer.socket.recv(20)
    assert ended == {"stalled": 1}


def test_reader_that_comes_back_in_time_gets_everything(start_server: Start) -> None:
    server = start_server("--stall-deadline-s=60", "--send-buffer-bytes=4096")
    with server.endings() as ended, Raw(server, small=True) as peer:
        peer.send(post(PATH, {**STREAMED, "max_tokens": 900}))
        server.wait_gauge("parked", 1)
        events = peer.read_until(b"[DONE]").count(b"data: ")
    assert ended == {"length": 1}
    assert events > 800


@on_linux
@pytest.mark.parametrize("how", ["http1", "http1 whole", "http2", "socket", "idle socket"])
def test_silence_is_noticed(start_server: Start, how: str) -> None:
    """No FIN, no RST, no ACK."""
    server = start_server(
        "--stall-deadline-s=1", "--dead-after-s=2", "--ping-interval-s=1", "--slots=2"
    )
    other = Raw(server)
    peer: Raw = Http2Client(server, window=2000) if how == "http2" else Raw(server)
    with server.endings() as ended, peer, other:
        if isinstance(peer, Http2Client):
            peer.ask("POST", PATH, {**STREAMED, "max_tokens": 950})
            peer.pump(lambda: 1 in peer.head)
        elif how.startswith("http1"):
            body = {**LONG_BODY, "max_tokens": 950, "stream": how == "http1"}
            peer.send(post(PATH, body))
            server.wait_active(1)
        else:
            credit = {"credits": 0} if how == "idle socket" else {}
            peer.send(HANDSHAKE, start({"prompt": PROMPT, "max_tokens": 950, **credit}))
            peer.read_until(b'"started"')
        peer.vanish()
        wait_until(server.is_idle, "idle server", patience_s=25)
    assert ended.total() == 1


@on_linux
def test_silence_of_an_idle_socket_is_noticed(start_server: Start) -> None:
    server = start_server("--ping-interval-s=0.3")
    with Raw(server) as peer:
        peer.send(HANDSHAKE)
        peer.read_until(b"\r\n\r\n")
        peer.vanish()
        sockets = f"/proc/{server.process.pid}/net/tcp"
        mine = f":{peer.socket.getsockname()[1]:04X} "

        def is_established() -> bool:
            with open(sockets) as table:
                rows = [row.split() for row in table]
            return any(row[2].endswith(mine.strip()) and row[3] == "01" for row in rows)

        assert is_established()
        wait_until(lambda: not is_established(), "end of the connection")


def test_socket_that_answers_pings_lives(start_server: Start) -> None:
    server = start_server("--ping-interval-s=0.2")
    with Raw(server) as peer:
        peer.send(HANDSHAKE)
        peer.read_until(b"\r\n\r\n")
        for _ in range(6):
            peer.read_until(b"\x89\x00")
            peer.send(frame(10, b""))
        peer.send(start(dict(SHORT)))
        peer.read_until(b'"complete"')
