"""Every way to leave, in every state a request can be in, on every transport.

The engine makes a turn for each permit, so that turns made for nobody are counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from penstock.web.listeners import bind, listen
from penstock.web.server import serve_until
from tests.peers import GatedEngine
from tests.web.test_disconnect import count

from .http2 import Http2Client
from .raw import CLOSE, HANDSHAKE, Raw, frame, post, start
from .servers import until_here as until

PATH = "/v1/completions"
BODY: dict[str, Any] = {"prompt": "once " * 40, "max_tokens": 100, "ignore_eos": True}
MANY = 10_000

WAYS: dict[str, list[str]] = {
    "http1": ["close", "reset", "half close"],
    "http2": ["close", "reset", "half close", "reset stream"],
    "socket": ["close", "reset", "half close", "close frame"],
}
CASES = [(transport, way) for transport, ways in WAYS.items() for way in ways]


class House:
    """A server in this process."""

    def __init__(self, app: App, engine: GatedEngine, port: int) -> None:
        self.app = app
        self.engine = engine
        self.address: Any = SimpleNamespace(host="127.0.0.1", port=port)

    def permit(self, turns: int) -> None:
        for _ in range(turns):
            self.engine.permits.release()

    def ended(self, way: str) -> float:
        return count(self.app, f"requests_{way}_total")

    def is_idle(self) -> bool:
        schedule = self.app.service.default.decoder.schedule
        return schedule.free == 1 and not self.app.service.default.admission.taken


class Rest:
    """True once the one stream has been parked for so many looks, in which no turn was made.

    A reader that is a little behind is parked for moments, long before the buffers are full, and
    the kernel asks a full one for 0.2 s whether it is.
    """

    LOOKS = 60

    def __init__(self, house: House) -> None:
        self._house = house
        self._seen = [-1]

    def __call__(self) -> bool:
        parked = self._house.app.service.default.decoder.schedule.parked
        self._seen.append(self._house.engine.entered if parked else -1)
        latest = self._seen[-self.LOOKS :]
        return len(latest) == self.LOOKS and set(latest) == {self._house.engine.entered}


@pytest.fixture
async def house(model: Model, tokenizer: Tokenizer) -> AsyncIterator[House]:
    settings = Settings(slots=1, queue=4, send_buffer_bytes=4096, drain_s=0)
    engine = GatedEngine(model, slots=1)
    app = App(assemble(settings, "default", engine, tokenizer))
    listeners = bind("127.0.0.1", 0)
    listen(listeners)
    async with serving(app, settings, listeners):
        yield House(app, engine, listeners[0].getsockname()[1])
        for _ in range(MANY):
            engine.permits.release()


@asynccontextmanager
async def serving(app: App, settings: Settings, listeners: list[Any]) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_until, trio.sleep_forever, app, settings, listeners))
        yield
        nursery.cancel_scope.cancel()


async def ask(house: House, transport: str, *, stream: bool = True, stop: bool = False) -> Raw:
    """A peer that has asked. `stop`: it takes next to nothing of the answer."""
    body = {**BODY, "stream": stream}
    if transport == "http2":
        client = Http2Client(house.address, window=500 if stop else 1 << 20)
        client.ask("POST", PATH, body)
        return client
    peer = Raw(house.address, small=stop)
    if transport == "http1":
        peer.send(post(PATH, body))
        return peer
    peer.send(HANDSHAKE)
    await trio.to_thread.run_sync(peer.read_until, b"\r\n\r\n")
    peer.send(start({**BODY, "credits": 3 if stop else None}))
    return peer


def leave(peer: Raw, way: str) -> None:
    match way:
        case "close":
            peer.socket.close()
        case "reset":
            peer.reset()
        case "half close":
            peer.half_close()
        case "close frame":
            peer.send(frame(CLOSE, b"\x03\xe8"))
        case _:
            assert isinstance(peer, Http2Client)
            peer.reset_stream(1)


async def assert_cancelled(house: House, leaving: Callable[[], None]) -> None:
    """Noticed at once, counted once, and not one turn is made for it any more."""
    entered = house.engine.entered
    leaving()
    await until(lambda: house.ended("cancelled") == 1, "cancellation")
    house.permit(MANY)
    await until(house.is_idle, "free slot")
    assert house.engine.entered == entered
    assert (house.ended("cancelled"), house.ended("finished"), house.ended("failed")) == (1, 0, 0)


@pytest.mark.parametrize(("transport", "way"), CASES)
@pytest.mark.parametrize("turns", [0, 1, 8], ids=["prefill", "later prefill", "in a long step"])
async def test_amid_a_turn(house: House, transport: str, way: str, turns: int) -> None:
    with await ask(house, transport) as peer:
        house.permit(turns)
        await until(lambda: house.engine.entered == turns + 1, "turn")
        await assert_cancelled(house, partial(leave, peer, way))


@pytest.mark.parametrize(("transport", "way"), CASES)
async def test_while_queued(house: House, transport: str, way: str) -> None:
    with await ask(house, "http1") as first:
        await until(lambda: house.engine.entered == 1, "turn")
        with await ask(house, transport) as peer:
            await until(lambda: house.app.service.default.decoder.schedule.waiting == 1, "queue")
            leave(peer, way)
            await until(lambda: house.ended("cancelled") == 1, "cancellation")
        assert house.app.service.default.decoder.schedule.waiting == 0
        assert house.engine.entered == 1
        first.reset()
        await until(lambda: house.ended("cancelled") == 2, "cancellation")
        house.permit(MANY)
        await until(house.is_idle, "free slot")
    assert house.engine.entered == 1


@pytest.mark.parametrize(("transport", "way"), CASES)
async def test_while_blocked_in_send(house: House, transport: str, way: str) -> None:
    with await ask(house, transport, stop=True) as peer:
        house.permit(MANY)
        await until(Rest(house), "parked stream")
        await assert_cancelled(house, partial(leave, peer, way))


@pytest.mark.parametrize(("transport", "way"), [case for case in CASES if case[0] != "socket"])
async def test_before_a_whole_answer(house: House, transport: str, way: str) -> None:
    with await ask(house, transport, stream=False) as peer:
        house.permit(8)
        await until(lambda: house.engine.entered == 9, "turn")
        await assert_cancelled(house, partial(leave, peer, way))


@pytest.mark.parametrize(("transport", "way"), CASES)
async def test_after_the_last_token(house: House, transport: str, way: str) -> None:
    """Nothing of the answer was read, and it was all sent: that is no cancellation."""
    with await ask(house, transport) as peer:
        house.permit(MANY)
        await until(lambda: house.ended("finished") == 1, "end")
        leave(peer, way)
        await until(house.is_idle, "free slot")
    assert (house.ended("cancelled"), house.ended("finished"), house.ended("failed")) == (0, 1, 0)
