"""A WebSocket peer in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import trio

from penstock.web.app import App


class SocketPeer:
    """One socket. `heard` has all that the server said, and `code` what it closed with."""

    def __init__(self, app: App, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.heard: list[dict[str, Any]] = []
        self.code: int | None = None
        self._app = app
        self._headers = headers
        self._send, self._inbox = trio.open_memory_channel[dict[str, Any]](inf)
        self._send.send_nowait({"type": "websocket.connect"})
        self._news = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        scope = {
            "type": "websocket",
            "path": "/v1/ws",
            "headers": self._headers,
            "subprotocols": [],
        }
        await self._app(scope, self._inbox.receive, self._take)

    def tell(self, kind: str, **fields: object) -> None:
        text = json.dumps({"type": kind, **fields})
        self._send.send_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self._send.send_nowait({"type": "websocket.disconnect"})

    async def hear(self, kind: str) -> dict[str, Any]:
        """The first message of this kind, once it is there."""
        with trio.fail_after(30):
            while True:
                for message in self.heard:
                    if message["type"] == kind:
                        return message
                await self._news.park()

    @property
    def numbers(self) -> list[int]:
        return [message["seq"] for message in self.heard if message["type"] == "token"]

    async def _take(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "websocket.send":
            self.heard.append(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self.code = message["code"]
        self._news.unpark_all()


@asynccontextmanager
async def connected(app: App) -> AsyncIterator[SocketPeer]:
    """A socket that is left at the end of the block."""
    peer = SocketPeer(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        yield peer
        peer.leave()
