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

from . import leaving
from .leaving import WAYS, leave
from .raw import Raw
from .servers import until_here as until

BODY: dict[str, Any] = {"prompt": "once " * 40, "max_tokens": 100, "ignore_eos": True}
MANY = 10_000

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
    return await leaving.ask(house.address, transport, {**BODY, "stream": stream}, stop=stop)


async def assert_cancelled(house: House, leave: Callable[[], None]) -> None:
    """Noticed at once, counted once, and not one turn is made for it any more."""
    entered = house.engine.entered
    leave()
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
    with await ask(house, "HTTP/1.1") as first:
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


@pytest.mark.parametrize(("transport", "way"), [case for case in CASES if case[0] != "WebSocket"])
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
