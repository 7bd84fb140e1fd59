"""A stall at an awkward byte: the connection is closed rather than used for the next response."""

from __future__ import annotations

import json
from functools import partial

import pytest
import trio

from penstock.build import build_service
from penstock.settings import Settings
from penstock.web import server
from penstock.web.app import App
from penstock.web.connection import Connection
from penstock.web.listeners import bind

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


async def test_a_stall_on_the_end_of_a_body_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "Connection", FullAtTheEnd)
    settings = Settings(port=0, slots=1, stall_deadline_s=0.2)
    app = App(build_service(settings))
    listeners = bind("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    body = json.dumps({"prompt": "a", "max_tokens": 2, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    got = b""
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        await nursery.start(partial(server.serve_until, stop.wait, app, settings, listeners))
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head.encode() + body)
            with trio.fail_after(20):
                while data := await stream.receive_some():
                    got += data
        nursery.cancel_scope.cancel()
    assert got.endswith(b"data: [DONE]\n\n\r\n")
