"""The same scripted source through `pipeline.run`, on our edge or on Hypercorn as it comes."""

from __future__ import annotations

import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_stock

from penstock import pipeline
from penstock.events import Delta, Event, Finished, Token
from penstock.live import Live
from penstock.pipeline import Emit, Pace
from penstock.settings import Settings
from penstock.web.exchange import Exchange, Receive, Send, while_connected
from penstock.web.listeners import bind, listen
from penstock.web.server import serve_until
from penstock.web.stream import StreamSink

EVENT = 'data: {"id":"cmpl-0123456789abcdef","object":"text","index":%d,"text":" token"}\n\n'
PACE = Pace(heartbeat_s=15, stall_deadline_s=30, min_drain_bytes_s=16)


async def source(emit: Emit) -> Finished:
    """Tokens as fast as they are taken."""
    index = 0
    while True:
        index += 1
        await emit(Delta(" token", (Token(index),), index))


class Encoder:
    def encode(self, event: Event) -> bytes:
        assert isinstance(event, Delta)
        return (EVENT % event.through).encode()

    def heartbeat(self) -> bytes:
        return b": keep-alive\n\n"


async def drained(_: float) -> None:
    """There is nothing to wait for."""


class Scripted:
    """An application with one route, and as much of a service as the server needs."""

    service = SimpleNamespace(run=trio.sleep_forever, drain=drained)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        exchange = Exchange(scope, receive, send)
        sink = StreamSink(exchange)
        run = partial(pipeline.run, Live(), source, Encoder(), sink, pace=PACE)
        await while_connected(exchange, run)


async def main(kind: str, port: int) -> None:
    app: Any = Scripted()
    if kind == "penstock":
        listeners = bind("127.0.0.1", port)
        listen(listeners)
        await serve_until(trio.sleep_forever, app, Settings(), listeners)
    else:
        config = Config()
        config.bind, config.backlog, config.accesslog = [f"127.0.0.1:{port}"], 2048, None
        await serve_stock(app, config)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
