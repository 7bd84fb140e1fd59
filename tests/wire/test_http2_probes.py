"""What must not hurt others on HTTP/2: floods, frames out of order, readers that never read."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder

from .asked import LONG_BODY
from .http2 import Http2Client
from .raw import PREFACE, Raw, http2, http2_frame
from .servers import Server, wait_until
from .test_http2 import PATH, SHORT, STREAMED

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
pytestmark = pytest.mark.heavy

HELLO = PREFACE + http2_frame(SETTINGS, 0, 0, b"")
NAMED = [(b":scheme", b"http"), (b":authority", b"x")]
GET = Encoder().encode([(b":method", b"GET"), (b":path", b"/health"), *NAMED])


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """After each probe the same process serves another client, and nothing is held."""
    yield
    assert server.process.poll() is None
    wait_until(server.is_idle, "idle server")
    with Http2Client(server) as client:
        assert client.fetch("POST", PATH, SHORT)[0] == 200


def flood(server: Server, *pieces: bytes) -> int | None:
    """Send all of it, whatever comes back; the error code of the GOAWAY, None for a reset."""
    with Raw(server) as peer:
        with suppress(OSError):
            peer.send(*pieces)
        said = peer.read_all()
    return goaway_code(said)


def goaway_code(said: bytes) -> int | None:
    while len(said) >= 9:
        size, kind = int.from_bytes(said[:3], "big"), said[3]
        if kind == GOAWAY and len(said) >= 17:
            return int.from_bytes(said[13:17], "big")
        said = said[9 + size :]
    return None


@pytest.mark.parametrize(
    "repeated",
    [
        http2_frame(PING, 0, 0, b"flooding"),
        http2_frame(SETTINGS, 0, 0, b""),
        http2_frame(PRIORITY, 0, 3, bytes(5)),
        http2_frame(WINDOW, 0, 0, struct.pack(">I", 1)),
        http2_frame(0x77, 0, 0, b"unknown"),
    ],
    ids=["ping", "settings", "priority", "window", "unknown"],
)
def test_chatter_without_work_is_ended(server: Server, repeated: bytes) -> None:
    assert flood(server, HELLO, repeated * 20_000) in (ErrorCodes.ENHANCE_YOUR_CALM, None)


def test_data_frames_without_data_are_ended(server: Server) -> None:
    pieces = http2(b"POST", b"/v1/completions", end=False)
    flooded = flood(server, pieces, http2_frame(DATA, 0, 1, b"") * 20_000)
    assert flooded in (ErrorCodes.ENHANCE_YOUR_CALM, None)


def test_rapid_resets_are_ended_and_leave_nothing(server: Server) -> None:
    """CVE-2023-44487."""
    block = Encoder().encode(
        [(b":method", b"GET"), (b":path", b"/chat/stream?prompt=Once"), *NAMED]
    )
    pieces = [
        http2_frame(HEADERS, 5, number, block)
        + http2_frame(RST, 0, number, struct.pack(">I", ErrorCodes.CANCEL))
        for number in range(1, 4001, 2)
    ]
    with server.endings() as ended:
        assert flood(server, HELLO, *pieces) in (ErrorCodes.ENHANCE_YOUR_CALM, None)
    assert set(ended) <= {"disconnect"}


def test_some_resets_are_a_client_s_right(server: Server) -> None:
    with Http2Client(server) as client:
        for _ in range(150):
            client.reset_stream(client.ask("GET", "/health"))
        assert client.fetch("GET", "/health")[0] == 200


def test_continuations_without_end_are_ended(server: Server) -> None:
    """CVE-2024-27316."""
    more = http2_frame(CONTINUATION, 0, 1, b"\x40\x01a\x01b" * 3000)
    assert flood(server, HELLO, http2_frame(HEADERS, 1, 1, GET), more * 2000) in (
        ErrorCodes.PROTOCOL_ERROR,
        ErrorCodes.ENHANCE_YOUR_CALM,
        None,
    )


def test_headers_that_unpack_to_megabytes_are_refused(server: Server) -> None:
    encoder = Encoder()
    first = encoder.encode([(b"x-large", b"x" * 4000)])
    again = encoder.encode([(b"x-large", b"x" * 4000)]) * 4000
    block = GET + first + again
    assert flood(server, HELLO, http2_frame(HEADERS, 5, 1, block[:16_000])) in (
        ErrorCodes.ENHANCE_YOUR_CALM,
        ErrorCodes.PROTOCOL_ERROR,
        ErrorCodes.COMPRESSION_ERROR,
    )


@pytest.mark.parametrize(
    "broken",
    [
        http2_frame(DATA, 0, 0, b"x"),
        http2_frame(DATA, 0, 9, b"x"),
        http2_frame(HEADERS, 5, 2, GET),
        http2_frame(HEADERS, 5, 1, b"\xff" * 30),
        http2(b"GET", b"")[len(HELLO) :],
        http2(b"CONNECT", b"/")[len(HELLO) :],
        http2_frame(HEADERS, 5, 1, Encoder().encode([(b"x", b"y")])),
        http2_frame(HEADERS, 5, 1, GET + Encoder().encode([(b"X-UPPER", b"y")])),
        http2_frame(HEADERS, 5, 1, GET + Encoder().encode([(b"connection", b"close")])),
        http2_frame(HEADERS, 4, 1, GET) + http2_frame(HEADERS, 4, 3, GET[:2]),
        http2_frame(CONTINUATION, 4, 1, GET),
        http2_frame(PUSH, 4, 1, bytes(4) + GET),
        http2_frame(WINDOW, 0, 0, bytes(4)),
        http2_frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 2,
        http2_frame(SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"),
        http2_frame(SETTINGS, 0, 0, b"x"),
        http2_frame(PING, 0, 0, b"short"),
        http2_frame(RST, 0, 7, bytes(4)),
        b"\xff" * 100,
    ],
)
def test_what_breaks_the_rules_is_told_and_closed(server: Server, broken: bytes) -> None:
    with Raw(server) as peer:
        peer.send(HELLO, broken)
        peer.half_close()
        peer.read_all()


def test_noise_behind_the_preface_is_survived(server: Server) -> None:
    noise = random.Random(11)
    for size in (1, 9, 100, 5000, 70_000):
        with Raw(server) as peer:
            try:
                peer.send(HELLO, noise.randbytes(size))
                peer.half_close()
            except OSError:
                continue
            peer.read_all()


def test_broken_connection_cancels_what_it_asked_for(server: Server) -> None:
    with server.endings() as ended, Http2Client(server) as client:
        client.ask("POST", PATH, LONG_BODY)
        client.ask("POST", PATH, STREAMED)
        server.wait_active(2)
        client.send(http2_frame(DATA, 0, 0, b"x"))
        client.pump_to_end()
    assert client.goaway is not None
    assert client.goaway.error_code == ErrorCodes.PROTOCOL_ERROR
    assert ended == {"disconnect": 2}


def test_streams_beyond_the_limit_are_refused_one_by_one(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("--h2-max-streams=4", "--slots=8")
    with Http2Client(server, window=0) as client:
        for _ in range(6):
            client.ask("POST", PATH, STREAMED)
        client.pump(lambda: len(client.resets) == 2)
        assert set(client.resets.values()) == {ErrorCodes.REFUSED_STREAM}
        server.wait_gauge("parked", 4)
        client.reset_stream(1)
        wait_until(lambda: server.gauge("live") == 3, "a place")
        assert client.fetch("GET", "/health")[0] == 200
    wait_until(server.is_idle, "idle server")


def test_peer_that_asks_and_never_reads_is_stalled_and_cut(
    start_server: Callable[..., Server],
) -> None:
    """Its socket is full, not its windows."""
    server = start_server("--stall-deadline-s=0.5", "--send-buffer-bytes=4096")
    with server.endings() as ended, Http2Client(server, window=1 << 30, small=True) as client:
        for _ in range(4):
            client.ask("POST", PATH, {**STREAMED, "max_tokens": 950})
        wait_until(lambda: server.gauge("live") == 4, "four streams")
        wait_until(lambda: is_cut(client), "reset")
    assert ended.total() == ended["stalled"] == 4


def is_cut(client: Http2Client) -> bool:
    try:
        client.send(http2_frame(PING, 1, 0, b"anybody?"))
    except OSError:
        return True
    return False


def test_stalled_stream_is_reset_and_its_connection_lives(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("--stall-deadline-s=0.3")
    with server.endings() as ended, Http2Client(server, window=1000) as client:
        client.stopped.add(1)
        client.ask("POST", PATH, STREAMED)
        client.pump(lambda: 1 in client.resets)
        assert client.resets[1] == ErrorCodes.INTERNAL_ERROR
        assert client.fetch("POST", PATH, SHORT)[0] == 200
    assert ended == {"stalled": 1, "length": 1}


def test_idle_connection_is_told_and_closed(start_server: Callable[..., Server]) -> None:
    server = start_server("--keep-alive-s=0.3")
    with Http2Client(server) as client:
        assert client.fetch("GET", "/health")[0] == 200
        client.pump_to_end()
        assert client.goaway is not None
        assert client.goaway.error_code == ErrorCodes.NO_ERROR
