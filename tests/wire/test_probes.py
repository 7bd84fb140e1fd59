"""What must not end the process, nor keep a slot or a place: malice, accidents and bad manners."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from .asked import LONG_BODY, PROMPT
from .raw import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    TEXT,
    Raw,
    frame,
    http2,
    http2_frame,
    post,
    start,
)
from .servers import Server, wait_until

LARGE = 1 << 20
STREAMED = {**LONG_BODY, "stream": True}
SHORT = {"prompt": PROMPT, "max_tokens": 3, "temperature": 0}


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """After each probe the same process serves another client, and nothing is held."""
    text = server.ask("POST", "/v1/completions", SHORT).json["choices"][0]["text"]
    yield
    assert server.process.poll() is None
    wait_until(server.is_idle, "idle server")
    assert server.ask("POST", "/v1/completions", SHORT).json["choices"][0]["text"] == text


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("how", ["close", "reset", "half close"])
def test_leaving_amid_an_answer_cancels(server: Server, how: str, *, streamed: bool) -> None:
    with server.endings() as ended, Raw(server) as peer:
        peer.send(post("/v1/completions", {**STREAMED, "stream": streamed}))
        if streamed:
            peer.read_until(b"data: ")
        else:
            server.wait_active(1)
        leave(peer, how)
    assert ended == {"disconnect": 1}


@pytest.mark.parametrize("headers", [["Connection: Upgrade", "Upgrade: h2c"], []])
@pytest.mark.parametrize("how", ["close", "reset", "half close"])
def test_leaving_is_seen_behind_an_upgrade_or_another_request(
    server: Server, how: str, headers: list[str]
) -> None:
    """The answer is not streamed: no write tells the server that its reader has left."""
    behind = b"" if headers else b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.endings() as ended, Raw(server) as peer:
        peer.send(post("/v1/completions", LONG_BODY, *headers), behind)
        server.wait_active(1)
        leave(peer, how)
    assert ended == {"disconnect": 1}


def leave(peer: Raw, how: str) -> None:
    if how == "reset":
        peer.reset()
    elif how == "close":
        peer.socket.close()
    else:
        peer.half_close()
        peer.read_all()


def test_requests_in_one_packet_are_answered_in_turn(server: Server) -> None:
    with Raw(server) as peer:
        last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        peer.send(post("/v1/completions", SHORT), post("/v1/completions", SHORT), last)
        answers = peer.read_all()
    assert answers.count(b"HTTP/1.1 200") == 3
    assert answers.count(b'"finish_reason"') == 2


@pytest.mark.parametrize(
    "line", ["POST /nope", "GET /v1/chat/completions", "PUT /v1/models", "POST /v1/jobs/x/cancel"]
)
def test_who_is_answered_before_the_body_has_come_is_told_that_nothing_more_is_read(
    server: Server, line: str
) -> None:
    """A client that keeps connections would send its next request into one that is closed."""
    head = f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n".encode()
    with Raw(server) as peer:
        peer.send(head)
        said = peer.read_until(b"}}")
        peer.send(b"{}")
        peer.read_all()
    assert b"\r\nconnection: close\r\n" in said.lower()
    with Raw(server) as peer:
        peer.send(head + b"{}")
        assert b"connection: close" not in peer.read_until(b"}}").lower()
        peer.send(post("/v1/completions", SHORT))
        peer.read_until(b'"usage"')


def test_a_refused_handshake_says_that_it_ends_the_connection(server: Server) -> None:
    offer = b"Sec-WebSocket-Protocol: other\r\n"
    with Raw(server) as peer:
        peer.send(HANDSHAKE.replace(b"Host: x\r\n", b"Host: x\r\n" + offer))
        said = peer.read_all()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in said.lower()


def test_upgrade_to_http2_is_ignored(server: Server) -> None:
    upgrade = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]
    with Raw(server) as peer:
        peer.send(post("/v1/completions", SHORT, *upgrade))
        assert b"HTTP/1.1 200" in peer.read_until(b'"usage"')


@pytest.mark.parametrize(("method", "path"), [(b"GET", b"/\xff"), (b"\xff", b"/"), (b"GET", b"x")])
def test_http2_request_that_makes_no_sense(server: Server, method: bytes, path: bytes) -> None:
    with Raw(server) as peer:
        peer.send(http2(method, path), http2_frame(6, 0, 0, b"are here"))
        assert b"are here" in peer.read_until(b"are here")


@pytest.mark.parametrize(
    "preface", [b"PRI * HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
)
def test_half_a_preface_is_refused(server: Server, preface: bytes) -> None:
    with Raw(server) as peer:
        peer.send(preface)
        peer.half_close()
        assert peer.read_all()[:13] in (b"", b"HTTP/1.1 505 ")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /\xff HTTP/1.1",
        b"G\xffT / HTTP/1.1",
        b"GET / HTTP/9.9",
        b"GET  /  HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 64,
    ],
)
def test_bad_request_lines_are_refused(server: Server, request_line: bytes) -> None:
    with Raw(server) as peer:
        peer.send(request_line, b"\r\nHost: x\r\n\r\n")
        assert peer.read_all()[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")


@pytest.mark.parametrize(
    "header",
    [b"Content-Length: x", b"Content-Length: 1\r\nContent-Length: 2", b"Host: y", b"X" * 200_000],
    ids=lambda header: header[:20].decode(),
)
def test_bad_headers_are_refused(server: Server, header: bytes) -> None:
    with Raw(server) as peer:
        peer.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n", header, b"\r\n\r\n")
        assert peer.read_all().startswith(b"HTTP/1.1 4")


def test_garbage_is_survived(server: Server) -> None:
    noise = random.Random(7)
    for size in (1, 10, 100, 5000, 70_000):
        with Raw(server) as peer:
            peer.send(noise.randbytes(size))
            peer.half_close()
            peer.read_all()


def test_body_that_never_comes_holds_no_place(server: Server) -> None:
    with server.endings() as ended, Raw(server) as peer:
        peer.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert server.gauge("live") == 0
    assert ended.total() == 0


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_frame_behind_a_message_over_the_limit(server: Server, opcode: int) -> None:
    with Raw(server) as peer:
        peer.send(HANDSHAKE)
        peer.read_until(b"\r\n\r\n")
        peer.send(frame(TEXT, b"x" * (LARGE + 1)), frame(opcode, b"more"))
        assert b"\x88\x02\x03\xf1" in peer.read_all()


def test_frame_before_the_handshake_is_answered(server: Server) -> None:
    with Raw(server) as peer:
        peer.send(HANDSHAKE, start({**SHORT, "ignore_eos": True}))
        assert b'"type":"complete"' in peer.read_until(b'"usage"')


def test_bad_handshake_is_refused_and_closed(server: Server) -> None:
    with Raw(server) as peer:
        peer.send(HANDSHAKE.replace(b"Sec-WebSocket-Key", b"Sec-Other"))
        assert peer.read_all().startswith(b"HTTP/1.1 400")


def test_peer_that_does_not_close_after_our_last_words_is_cut(server: Server) -> None:
    def is_cut() -> bool:
        try:
            peer.send(frame(PING, b""))
        except OSError:
            return True
        return False

    with Raw(server) as peer:
        peer.send(HANDSHAKE, frame(TEXT, b"{"))
        assert peer.read_all().endswith(b"\x88\x0a\x11\x30not JSON")
        wait_until(is_cut, "reset")


@pytest.mark.parametrize(
    "bad",
    [
        b"\x81\x05hello",
        b"\xc1\x80\0\0\0\0",
        b"\x83\x80\0\0\0\0",
        frame(TEXT, b"\xff"),
        b"\xff" * 50,
    ],
    ids=["unmasked", "reserved bit", "reserved opcode", "not UTF-8", "noise"],
)
def test_bad_frames_close_and_cancel(server: Server, bad: bytes) -> None:
    with server.endings() as ended, Raw(server) as peer:
        peer.send(HANDSHAKE, start(LONG_BODY))
        peer.read_until(b'"started"')
        peer.send(bad)
        peer.read_all()
    assert ended == {"disconnect": 1}


def test_compression_is_not_offered(server: Server) -> None:
    """Compressed tokens pile up in the buffers of a reader that has stopped."""
    offer = b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    with Raw(server) as peer:
        peer.send(HANDSHAKE.replace(b"\r\n\r\n", offer))
        assert b"extensions" not in peer.read_until(b"\r\n\r\n").lower()


@pytest.mark.parametrize("last", [b"", frame(PING, b"?"), frame(CLOSE, b"\x03\xe8")])
@pytest.mark.parametrize("how", ["close", "reset", "half close"])
def test_socket_that_is_dropped_cancels(server: Server, last: bytes, how: str) -> None:
    with server.endings() as ended, Raw(server) as peer:
        peer.send(HANDSHAKE, start(LONG_BODY))
        peer.read_until(b'"token"')
        peer.send(last)
        leave(peer, how)
    assert ended == {"disconnect": 1}


def test_many_resets_leak_nothing(server: Server) -> None:
    with server.endings() as ended:
        peers = [Raw(server) for _ in range(40)]
        for peer in peers:
            peer.send(post("/v1/completions", STREAMED))
        wait_until(lambda: server.gauge("live") == 40, "40 requests inside")
        for peer in peers:
            peer.reset()
    assert ended == {"disconnect": 40}
