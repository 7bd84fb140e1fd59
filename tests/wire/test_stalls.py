"""A stall at an awkward byte: the connection is closed rather than used for the next response."""

from __future__ import annotations

import json
import re
from functools import partial

import h11
import pytest
import trio

from penstock.build import build_service
from penstock.settings import Settings
from penstock.web import server
from penstock.web.app import App
from penstock.web.connection import Connection
from penstock.web.listeners import bind, listen

from .asked import PROMPT

SHORT = {"prompt": PROMPT, "max_tokens": 2, "temperature": 0, "ignore_eos": True}
END = b"0\r\n\r\n"

pytestmark = pytest.mark.wire


class FullAtTheEnd(Connection):
    """A connection whose socket is full just when a chunked body is to be ended, once."""

    met = False

    def write_nowait(self, data: memoryview) -> int:
        return 0 if bytes(data) == END and not self.met else super().write_nowait(data)

    async def write_some(self, data: memoryview) -> int:
        if bytes(data) == END and not self.met:
            self.met = True
            await trio.sleep_forever()
        return await super().write_some(data)


class FullAtTheHead(Connection):
    """A connection whose socket takes nothing at all."""

    def write_nowait(self, data: memoryview) -> int:
        return 0

    async def write_some(self, data: memoryview) -> int:
        await trio.sleep_forever()
        raise AssertionError


class InPieces(Connection):
    """A connection whose socket takes a few bytes at once, and then the rest."""

    def write_nowait(self, data: memoryview) -> int:
        return super().write_nowait(data[:7])


class FullWithinAnEvent(InPieces):
    """A connection whose socket is full for good in the middle of the second event."""

    events = 0

    async def write_some(self, data: memoryview) -> int:
        self.events += bytes(data).endswith(b"\n\n\r\n")
        if self.events == 2:
            await trio.sleep_forever()
        return await super().write_some(data)


class BrokenAtTheHead(Connection):
    """A connection whose peer has reset it, as the first write finds."""

    def write_nowait(self, data: memoryview) -> int:
        raise ConnectionResetError


async def ask(
    kind: type[Connection], monkeypatch: pytest.MonkeyPatch, *, stream: bool = True
) -> bytes:
    """What comes of a request to a server with such connections, until it closes."""
    monkeypatch.setattr(server, "Connection", kind)
    settings = Settings(port=0, slots=1, stall_deadline_s=0.2, keep_alive_s=0.2)
    app = App(build_service(settings))
    listeners = bind("127.0.0.1", 0)
    listen(listeners)
    port = listeners[0].getsockname()[1]
    body = json.dumps({**SHORT, "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    got = b""
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        await nursery.start(partial(server.serve_until, stop.wait, app, settings, listeners))
        async with await trio.open_tcp_stream("127.0.0.1", port) as peer:
            await peer.send_all(head.encode() + body)
            with trio.fail_after(20):
                while data := await peer.receive_some():
                    got += data
        nursery.cancel_scope.cancel()
    return got


async def test_a_stall_on_the_end_of_a_body_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got = await ask(FullAtTheEnd, monkeypatch)
    assert got.endswith(b"data: [DONE]\n\n\r\n")


async def test_events_that_leave_in_pieces_arrive_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    got = await ask(InPieces, monkeypatch)
    *events, last, after = chunks(got).split(b"\n\n")
    assert (last, after) == (b"data: [DONE]", b"")
    assert len(events) == 3
    assert all(json.loads(event.removeprefix(b"data: "))["object"] for event in events)


def chunks(got: bytes) -> bytes:
    """The body of a chunked response that has come to its end."""
    client, body = h11.Connection(h11.CLIENT), b""
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(got)
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert not isinstance(event, type), event
        body += event.data if isinstance(event, h11.Data) else b""
    return body


async def test_a_stall_within_an_event_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got = await ask(FullWithinAnEvent, monkeypatch)
    assert re.search(rb"}\n\n\r\n[0-9a-f]+\r\nd.{,12}$", got)


@pytest.mark.parametrize("kind", [FullAtTheHead, BrokenAtTheHead])
@pytest.mark.parametrize("stream", [True, False])
async def test_headers_that_cannot_be_written_are_no_failure_of_ours(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Connection],
    *,
    stream: bool,
) -> None:
    assert await ask(kind, monkeypatch, stream=stream) == b""
    assert "failed" not in caplog.text
