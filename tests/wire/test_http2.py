"""HTTP/2 by hand: what is answered, what a window holds back, who is disturbed by whom."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from .asked import LONG_BODY, PROMPT
from .http2 import Http2Client
from .servers import Server, wait_until

pytestmark = pytest.mark.heavy

PATH = "/v1/completions"
STREAMED = {**LONG_BODY, "stream": True}
SHORT = {"prompt": PROMPT, "max_tokens": 5, "temperature": 0, "ignore_eos": True}


def text_of(events: bytes) -> str:
    chunks = re.findall(rb"data: (\{.*\})", events)
    return "".join(choice["text"] for chunk in chunks for choice in json.loads(chunk)["choices"])


def test_an_answer_is_the_same_as_on_http1(server: Server) -> None:
    other = server.ask("POST", PATH, SHORT)
    with Http2Client(server) as client:
        status, body = client.fetch("POST", PATH, SHORT)
        assert status == 200
        assert json.loads(body)["choices"] == other.json["choices"]
        told = client.head[1]
        assert told["content-type"] == "application/json"
        assert int(told["content-length"]) == len(body)
        assert told["x-request-id"]
        assert "date" in told


def test_a_stream_is_the_same_as_on_http1(server: Server) -> None:
    other = server.ask("POST", PATH, SHORT).json["choices"][0]["text"]
    with Http2Client(server) as client:
        status, body = client.fetch("POST", PATH, {**SHORT, "stream": True})
    assert status == 200
    assert client.head[1]["content-type"].startswith("text/event-stream")
    assert body.endswith(b"data: [DONE]\n\n")
    assert text_of(body) == other


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/v1/models"])
def test_other_routes_answer(server: Server, path: str) -> None:
    with Http2Client(server) as client:
        status, _ = client.fetch("GET", path)
    assert status == 200


def test_requests_share_a_connection(server: Server) -> None:
    with Http2Client(server) as client:
        numbers = [client.ask("POST", PATH, SHORT) for _ in range(12)]
        bodies = {client.read(number)[1] for number in numbers}
    texts = {json.loads(body)["choices"][0]["text"] for body in bodies}
    assert len(texts) == 1


def test_head_has_no_body_and_opens_no_generation(server: Server) -> None:
    with server.endings() as ended, Http2Client(server) as client:
        status, body = client.fetch("HEAD", PATH)
    assert (status, body, ended.total()) == (405, b"", 0)


@pytest.mark.parametrize("window", [0, 1, 500, 65_535])
def test_a_stream_that_is_not_read_is_parked_and_loses_nothing(server: Server, window: int) -> None:
    """What the client holds is its window, to the byte; then its decoder rests."""
    whole = server.ask("POST", PATH, {**LONG_BODY, "temperature": 0}).json["choices"][0]["text"]
    with server.endings() as ended, Http2Client(server, window=window) as client:
        client.stopped.add(1)
        client.ask("POST", PATH, {**STREAMED, "temperature": 0})
        client.pump(lambda: len(client.body[1]) == window)
        server.wait_gauge("parked", 1)
        steps = server.gauge("decode_steps")
        assert client.fetch("GET", "/health")[0] == 200
        assert server.gauge("decode_steps") == steps
        assert len(client.body[1]) == window
        client.stopped.clear()
        client.wire.increment_flow_control_window(1 << 24, 1)
        client.flush()
        _, body = client.read(1)
    assert text_of(body) == whole
    assert ended == {"length": 1}


def test_a_sibling_streams_on_beside_one_that_is_not_read(server: Server) -> None:
    with server.endings() as ended, Http2Client(server, window=2000) as client:
        client.stopped.add(1)
        client.ask("POST", PATH, STREAMED)
        client.pump(lambda: len(client.body[1]) == 2000)
        server.wait_gauge("parked", 1)
        for _ in range(3):
            _, body = client.read(client.ask("POST", PATH, {**STREAMED, "max_tokens": 300}))
            assert body.endswith(b"data: [DONE]\n\n")
        assert server.gauge("parked") == 1
        assert len(client.body[1]) == 2000
    assert ended == {"length": 3, "disconnect": 1}


def test_a_stream_leaves_its_siblings_half_of_a_narrow_connection(server: Server) -> None:
    """Both windows are HTTP/2's defaults, so that one stream could fill the shared one."""
    with server.endings() as ended, Http2Client(server, shared=0) as client:
        sibling = client.ask("POST", PATH, end=False)
        stalled = client.ask("POST", PATH, {**STREAMED, "max_tokens": 950})
        client.stopped.add(stalled)
        client.pump(lambda: len(client.body[stalled]) >= 32_768)
        server.wait_gauge("parked", 1)
        client.wire.send_data(
            sibling, json.dumps({**STREAMED, "max_tokens": 500}).encode(), end_stream=True
        )
        client.flush()
        _, body = client.read(sibling)
        assert body.endswith(b"data: [DONE]\n\n")
        assert len(body) > 65_535
        assert len(client.body[stalled]) < 34_000
    assert ended == {"length": 1, "disconnect": 1}


def test_a_reset_cancels_its_stream_at_once_and_no_other(server: Server) -> None:
    with server.endings() as ended, Http2Client(server) as client:
        gone, kept = client.ask("POST", PATH, STREAMED), client.ask("POST", PATH, STREAMED)
        client.pump(lambda: bool(client.body[gone] and client.body[kept]))
        client.reset_stream(gone)
        _, body = client.read(kept)
        assert body.endswith(b"data: [DONE]\n\n")
    assert ended == {"length": 1, "disconnect": 1}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("window", [0, 65_535])
def test_a_reset_in_any_state_cancels_once(server: Server, *, streamed: bool, window: int) -> None:
    with server.endings() as ended, Http2Client(server, window=window) as client:
        client.ask("POST", PATH, {**STREAMED, "stream": streamed})
        server.wait_active(1)
        client.reset_stream(1)
        wait_until(server.is_idle, "idle server")
        assert client.fetch("GET", "/health")[0] == 200
    assert ended == {"disconnect": 1}


@pytest.mark.parametrize("how", ["close", "reset", "half close", "goaway"])
def test_leaving_cancels_every_stream_once(server: Server, how: str) -> None:
    with server.endings() as ended, Http2Client(server) as client:
        for _ in range(3):
            client.ask("POST", PATH, STREAMED)
        server.wait_active(3)
        if how == "goaway":
            client.wire.close_connection()
            client.flush()
        else:
            {"close": client.socket.close, "reset": client.reset, "half close": client.half_close}[
                how
            ]()
        wait_until(server.is_idle, "idle server")
    assert ended == {"disconnect": 3}


def test_a_body_is_taken_as_it_is_read(server: Server) -> None:
    """A body larger than the window arrives only if windows are widened as it is consumed."""
    body = json.dumps({**SHORT, "user": "x" * 300_000}).encode()
    with Http2Client(server) as client:
        number = client.ask("POST", PATH, end=False)
        left = body
        while left:
            client.pump(lambda: client.wire.local_flow_control_window(number) > 0)
            size = min(client.wire.local_flow_control_window(number), 16_384)
            client.wire.send_data(number, left[:size], end_stream=len(left) <= size)
            left = left[size:]
            client.flush()
        assert client.read(number)[0] == 200


def test_a_body_over_the_limit_is_refused(start_server: Callable[..., Server]) -> None:
    server = start_server("--max-body-bytes=20000")
    with Http2Client(server) as client:
        number = client.ask("POST", PATH, b"x" * 16_000, end=False)
        client.wire.send_data(number, b"x" * 16_000)
        client.flush()
        status, body = client.read(number)
        assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")
        client.pump(lambda: number in client.resets)
        assert client.fetch("GET", "/health")[0] == 200


def test_a_body_that_nobody_takes_holds_no_sibling(server: Server) -> None:
    with Http2Client(server) as client:
        held = [client.ask("PUT", "/health", b"", end=False) for _ in range(3)]
        for number in held:
            client.wire.send_data(number, b"x" * 16_000)
        client.flush()
        assert client.fetch("POST", PATH, SHORT)[0] == 200


def test_expect_is_answered(server: Server) -> None:
    with Http2Client(server) as client:
        number = client.ask("POST", PATH, end=False, expect="100-continue")
        client.pump(lambda: any("Informational" in type(each).__name__ for each in client.events))
        client.wire.send_data(number, json.dumps(SHORT).encode(), end_stream=True)
        client.flush()
        assert client.read(number)[0] == 200
