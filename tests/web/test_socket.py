"""A WebSocket peer that sends and does not read costs one message, and is ended in time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web import ws
from tests.peers import make_engine


class DeafPeer:
    """Sends the same message for ever, and takes nothing after the handshake."""

    def __init__(self, message: dict[str, object]) -> None:
        self.heard = 0
        self.blocked = 0
        self.closed_with: list[int] = []
        self._text = json.dumps(message)
        self._connected = False

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        self.heard += 1
        return {"type": "websocket.receive", "text": self._text}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            return
        if message["type"] == "websocket.close":
            self.closed_with.append(message["code"])
            return
        self.blocked += 1
        try:
            await trio.sleep_forever()
        finally:
            self.blocked -= 1


@pytest.mark.parametrize(
    "message",
    [
        {"type": "resume", "job_id": "x"},
        {"type": "start", "prompt": ""},
        {"type": "start", "prompt": "Once", "model": "other"},
    ],
    ids=["resume", "bad start", "unknown model"],
)
async def test_refusals_are_not_piled_up(
    autojump_clock: MockClock, model: Model, tokenizer: Tokenizer, message: dict[str, object]
) -> None:
    settings = Settings(slots=1, stall_deadline_s=30)
    service = assemble(settings, "default", make_engine(model, slots=1), tokenizer)
    peer = DeafPeer(message)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.serve, service, {"subprotocols": []}, peer.receive, peer.send)
        await wait_all_tasks_blocked()
        assert (peer.heard, peer.blocked) == (1, 1)
        await trio.sleep(31)
        assert peer.closed_with == [1013]
    assert peer.blocked == 0
