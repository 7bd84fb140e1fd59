"""A queue that is full of one client's requests still has room for another's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import OVERLOADED, PenstockError, overloaded
from penstock.events import Failed, Finished
from penstock.live import Live
from penstock.requests import Caller, GenerateRequest, Sampling
from penstock.service import Service
from penstock.settings import Settings
from tests.peers import GatedEngine, GatedSink, PlainEncoder, make_engine, settled

ASK = GenerateRequest(
    prompt="Once upon a time", max_tokens=8, sampling=Sampling(temperature=0), ignore_eos=True
)


class Client:
    """One request and how it ended."""

    def __init__(self, service: Service, account: str, order: list[str]) -> None:
        self.live = Live()
        self.sink = GatedSink(permits=1000)
        self._service, self._account, self._order = service, account, order

    async def run(self) -> None:
        request = replace(ASK, caller=Caller(self._account))
        await self._service.generate(request, PlainEncoder(), self.sink, self.live)
        if isinstance(self.live.terminal, Finished):
            self._order.append(self._account)


async def test_the_latest_of_a_crowd_goes_and_the_newcomer_is_next(
    model: Model, tokenizer: Tokenizer
) -> None:
    engine = GatedEngine(model, slots=1)
    service = assemble(Settings(slots=1, queue=4), "default", engine, tokenizer)
    order: list[str] = []
    crowd = [Client(service, "crowd", order) for _ in range(5)]
    late = Client(service, "late", order)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        async with trio.open_nursery() as clients:
            for client in crowd:
                clients.start_soon(client.run)
                await wait_all_tasks_blocked()
            clients.start_soon(late.run)
            await wait_all_tasks_blocked()
            refused = crowd[-1].live.terminal
            assert isinstance(refused, Failed)
            assert refused.error.kind is OVERLOADED
            assert crowd[-1].sink.written == [refused]
            assert service.default.decoder.schedule.waiting == 4
            engine.permits.release(1000)
        nursery.cancel_scope.cancel()
    assert order == ["crowd", "late", "crowd", "crowd", "crowd"]
    assert service.default.admission.taken == 0


async def test_lines_of_about_the_same_length_displace_nobody(
    model: Model, tokenizer: Tokenizer
) -> None:
    engine = make_engine(model, slots=1)
    service = assemble(Settings(slots=1, queue=4), "default", engine, tokenizer)
    decoder, order = service.default.decoder, list[str]()
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as clients:
            for account in "aab":
                clients.start_soon(Client(service, account, order).run)
                await wait_all_tasks_blocked()
            assert not decoder.displace("b", 1, 1, overloaded(1))
            assert decoder.displace("c", 1, 1, overloaded(1))
            assert not decoder.displace("c", 1, 1, overloaded(1))
            nursery.start_soon(service.run)
        nursery.cancel_scope.cancel()
    assert sorted(order) == ["a", "b"]


async def test_what_has_begun_is_never_displaced(
    model: Model, tokenizer: Tokenizer, mock_clock: MockClock
) -> None:
    """Three streams that stopped reading were evicted, and all come back at once."""
    engine = make_engine(model, slots=1)
    settings = Settings(slots=1, queue=4, heartbeat_s=1e6, stall_deadline_s=1e6)
    service = assemble(settings, "default", engine, tokenizer)
    decoder, order = service.default.decoder, list[str]()
    stopped = [Client(service, "crowd", order) for _ in range(4)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        async with trio.open_nursery() as clients:
            for client in stopped:
                client.sink.permits = 0
                clients.start_soon(client.run)
            for _ in range(10):
                await settled(decoder)
                mock_clock.jump(1)
            assert decoder.schedule.evicted == 3
            for client in stopped:
                client.sink.allow(1000)
            assert not decoder.displace("late", 1, 1, overloaded(1))
        nursery.cancel_scope.cancel()
    assert order == ["crowd"] * 4


async def test_answers_to_one_prompt_that_has_begun_are_not_displaced(
    model: Model, tokenizer: Tokenizer
) -> None:
    """Losing one of them would end the whole request, which is being read already."""
    engine = make_engine(model, slots=1, parked_kv_bytes=1 << 30)
    service = assemble(Settings(slots=1, queue=4), "default", engine, tokenizer)
    decoder, live, sink = service.default.decoder, Live(), GatedSink(permits=2)
    several = replace(ASK, n=5, caller=Caller("crowd"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        async with trio.open_nursery() as clients:
            clients.start_soon(service.generate, several, PlainEncoder(), sink, live)
            await settled(decoder)
            assert decoder.schedule.waiting == 4
            assert not decoder.displace("late", 1, 1, overloaded(1))
            sink.allow(1000)
        nursery.cancel_scope.cancel()
    assert isinstance(live.terminal, Finished)


async def test_a_request_that_waits_is_displaced_with_all_its_answers(
    model: Model, tokenizer: Tokenizer
) -> None:
    engine = GatedEngine(model, slots=1)
    service = assemble(Settings(slots=1, queue=5), "default", engine, tokenizer)
    decoder, live, order = service.default.decoder, Live(), list[str]()
    several = replace(ASK, n=5, caller=Caller("crowd"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        async with trio.open_nursery() as clients:
            clients.start_soon(Client(service, "seated", order).run)
            await wait_all_tasks_blocked()
            clients.start_soon(service.generate, several, PlainEncoder(), GatedSink(1000), live)
            await wait_all_tasks_blocked()
            assert decoder.schedule.waiting == 5
            assert not decoder.displace("late", 1, 1, overloaded(1)), "its line would be shorter"
            assert decoder.schedule.waiting == 5
            engine.permits.release(1000)
        nursery.cancel_scope.cancel()
    assert isinstance(live.terminal, Finished)


async def test_nobody_goes_where_not_enough_can_go(model: Model, tokenizer: Tokenizer) -> None:
    engine = GatedEngine(model, slots=1)
    service = assemble(Settings(slots=1, queue=4), "default", engine, tokenizer)
    decoder, order = service.default.decoder, list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        async with trio.open_nursery() as clients:
            for _ in range(5):
                clients.start_soon(Client(service, "crowd", order).run)
                await wait_all_tasks_blocked()
            several = replace(ASK, n=4, caller=Caller("late"))
            with pytest.raises(PenstockError, match="all places are taken"):
                await service.generate(several, PlainEncoder(), GatedSink(1000))
            assert decoder.schedule.waiting == 4
            engine.permits.release(1000)
        nursery.cancel_scope.cancel()
    assert order == ["crowd"] * 5
