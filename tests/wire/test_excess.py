"""Too much of something, or twice: refused, at no cost to the stream of another client."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .asked import LONG_BODY, PROMPT
from .raw import HANDSHAKE, TEXT, Raw, frame, post, start
from .servers import Server, wait_until

PATH = "/v1/completions"
SHORT = {"prompt": PROMPT, "max_tokens": 3, "temperature": 0, "ignore_eos": True}
MIB = 1 << 20
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def neighbour(server: Server) -> Iterator[None]:
    """One stream is there during the probe and goes on; the next has the text of one before."""
    text = stream(server)
    with Raw(server) as peer:
        peer.send(HANDSHAKE, start({**SHORT, "credits": 1}))
        peer.read_until(b'"token"')
        yield
        peer.send(frame(TEXT, b'{"type":"pull","n":9}'))
        assert b'"finish_reason":"length"' in peer.read_until(b'"usage"')
    wait_until(server.is_idle, "idle server")
    assert stream(server) == text


def stream(server: Server) -> list[bytes]:
    """The texts of a stream's events."""
    with Raw(server) as peer:
        peer.send(post(PATH, {**SHORT, "stream": True}))
        events = peer.read_until(b"[DONE]").split(b"data: ")
    return [event.split(b'"text":')[1] for event in events if b'"text":' in event]


def exchange(server: Server, *pieces: bytes) -> bytes:
    """All that the server says to these bytes before it closes, taken or not."""
    with Raw(server) as peer:
        with suppress(ConnectionError):
            for piece in pieces:
                peer.send(piece)
        return peer.read_all()


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([b"POST /v1/completions HTTP/1.1", b"Host: x", *lines, b"", b""])


@pytest.mark.parametrize(
    "lines",
    [[b"X: " + b"x" * 10 * MIB], [b"X" * 10 * MIB + b": x"], [b"a: b"] * 10_000],
    ids=["10 MB", "a name of 10 MB", "10,000"],
)
def test_heads_beyond_reason_are_refused(server: Server, lines: list[bytes]) -> None:
    assert exchange(server, head(*lines)).startswith(b"HTTP/1.1 431 ")


def test_a_head_that_grows_is_refused_and_held_by_nobody(server: Server) -> None:
    before = memory_kib(server)
    assert exchange(server, head()[:-2], *[b"X: " + b"x" * MIB] * 64).startswith(b"HTTP/1.1 4")
    assert memory_kib(server) - before < 8 * 1024


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 4", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 4"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 4, 5"],
        [b"Content-Length: +4"],
        [b"Content-Length : 4"],
    ],
    ids=lambda lines: b", ".join(lines).decode(),
)
def test_two_lengths_are_none(server: Server, lines: list[bytes]) -> None:
    """A proxy may believe the other one. Nothing behind such a head is a request."""
    said = exchange(server, head(*lines), b"0\r\n\r\n", SMUGGLED)
    assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert said.count(b"HTTP/1.1 ") == 1


def test_chunks_are_not_for_http_1_0(server: Server) -> None:
    old = head(b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0")
    said = exchange(server, old, b"0\r\n\r\n", SMUGGLED)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions", "/chat/stream", "/v1/stream"])
def test_head_of_a_stream_is_a_status_without_a_body(server: Server, path: str) -> None:
    with Raw(server) as peer:
        peer.send(f"HEAD {path}?prompt=x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert peer.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 405 ")
        peer.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert peer.read_all().startswith(b"HTTP/1.1 200 ")


CHUNK = b"100000\r\n" + b" " * MIB + b"\r\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("path", [PATH, "/v1/jobs", "/v1/chat/completions"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_huge_body_is_refused_and_held_by_nobody(
    server: Server, path: str, *, declared: bool
) -> None:
    length = b"Content-Length: 1000000000" if declared else b"Transfer-Encoding: chunked"
    asked = head(length).replace(PATH.encode(), path.encode())
    before = memory_kib(server)
    said = exchange(server, asked, *([b" " * MIB] if declared else [CHUNK]) * 100)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in said
    assert memory_kib(server) - before < 24 * 1024


def memory_kib(server: Server) -> int:
    """The most that the process has held so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_client_that_waits_for_leave_gets_it(server: Server) -> None:
    whole = post(PATH, SHORT, "Expect: 100-continue")
    asked, _, body = whole.partition(b"\r\n\r\n")
    with Raw(server) as peer:
        peer.send(asked, b"\r\n\r\n")
        assert peer.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        peer.send(body)
        assert peer.read_until(b'"usage"').startswith(b"HTTP/1.1 200 ")


def test_a_client_that_waits_for_leave_and_leaves_is_no_failure(server: Server) -> None:
    with Raw(server) as peer:
        peer.send(head(b"Content-Length: 9", b"Expect: 100-continue"))
        peer.read_until(b"\r\n\r\n")


@pytest.mark.parametrize("behind", [b"GET /hea", SMUGGLED, b"\0" * 100, b" " * 100_000])
@pytest.mark.parametrize("streamed", [True, False])
def test_bytes_behind_a_request_and_then_the_end(
    server: Server, behind: bytes, *, streamed: bool
) -> None:
    with Raw(server) as peer:
        peer.send(post(PATH, {**LONG_BODY, "stream": streamed}), behind)
        server.wait_gauge("live", 2)
    server.wait_gauge("live", 1)


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_socket_from_a_page_of_another_host_is_refused(server: Server, origin: str) -> None:
    """A browser lets any page open one, and keeps nothing of it from the page."""
    asked = HANDSHAKE.replace(b"Host:", f"Origin: {origin}\r\nHost:".encode())
    said = exchange(server, asked)
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b'"code":"forbidden"' in said


def test_a_socket_from_a_page_of_ours_is_served(server: Server) -> None:
    with Raw(server) as peer:
        peer.send(HANDSHAKE.replace(b"Host: x", b"Origin: http://x\r\nHost: x"))
        assert peer.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
