"""A client that leaves: its slot is free at the next step boundary, and it is counted once."""

from __future__ import annotations

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import GatedEngine, settled
from tests.test_decoder import entered

PATH = "/v1/completions"


def make_app(model: Model, tokenizer: Tokenizer, *, slots: int = 1) -> tuple[App, GatedEngine]:
    engine = GatedEngine(model, slots=slots)
    service = assemble(Settings(slots=slots, queue=4), "default", engine, tokenizer)
    return App(service), engine


def count(app: App, name: str, **labels: str) -> float:
    text = app.service.metrics.render().decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return sum(
        s.value
        for s in samples
        if s.name == f"penstock_{name}" and labels.items() <= s.labels.items()
    )


def ask(app: App, *, stream: bool, reads: float = float("inf"), words: int = 1) -> MemoryClient:
    asked = {
        "prompt": "once " * words,
        "max_tokens": 30,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }
    return post(app, PATH, asked, reads=reads)


async def assert_released(app: App, engine: GatedEngine, *, turns: int) -> None:
    """Everything is back, and the model ran `turns` turns in all."""
    await settled(app.service.default.decoder)
    assert len(engine.turns) == turns
    assert app.service.default.decoder.schedule.free == 1
    assert app.service.default.admission.taken == 0
    assert repr(engine) == "<Engine <Slots 0 of 1 in use>>"
    assert count(app, "requests_cancelled_total", reason="disconnect") == 1
    assert count(app, "requests_cancelled_total") == 1
    assert count(app, "requests_finished_total") == 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("words", "turns"), [(40, 0), (40, 1), (1, 5)], ids=["first chunk", "later chunk", "decode"]
)
async def test_leaving_in_a_turn_frees_the_slot_when_that_turn_ends(
    model: Model, tokenizer: Tokenizer, stream: bool, words: int, turns: int
) -> None:
    app, engine = make_app(model, tokenizer)
    client = ask(app, stream=stream, words=words)
    async with running(app), trio.open_nursery() as clients:
        clients.start_soon(client.run)
        for _ in range(turns):
            engine.permits.release()
        await entered(engine, turns + 1)
        client.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert app.service.default.admission.taken == 0
        engine.permits.release()
        await assert_released(app, engine, turns=turns + 1)


async def test_leaving_while_blocked_in_send_costs_no_turn(
    model: Model, tokenizer: Tokenizer
) -> None:
    app, engine = make_app(model, tokenizer)
    client = ask(app, stream=True, reads=4)
    async with running(app), trio.open_nursery() as clients:
        clients.start_soon(client.run)
        for _ in range(40):
            engine.permits.release()
        await settled(app.service.default.decoder)
        turns = len(engine.turns)
        assert turns == 4 + 3
        client.leave()
        await assert_released(app, engine, turns=turns)


async def test_leaving_the_queue_gives_the_place_back_and_costs_no_turn(
    model: Model, tokenizer: Tokenizer
) -> None:
    app, engine = make_app(model, tokenizer)
    first, queued = ask(app, stream=True), ask(app, stream=True)
    async with running(app), trio.open_nursery() as clients:
        clients.start_soon(first.run)
        await entered(engine, 1)
        clients.start_soon(queued.run)
        await trio.testing.wait_all_tasks_blocked()
        assert (app.service.default.admission.taken, count(app, "waiting")) == (2, 1)
        queued.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert (app.service.default.admission.taken, count(app, "waiting")) == (1, 0)
        assert count(app, "requests_cancelled_total", reason="disconnect") == 1
        for _ in range(40):
            engine.permits.release()
        await settled(app.service.default.decoder)
        assert first.ended
        assert count(app, "requests_finished_total", reason="length") == 1


async def test_leaving_after_the_last_event_is_not_counted_as_cancelled(
    model: Model, tokenizer: Tokenizer
) -> None:
    """openai-python closes the socket as soon as it has read [DONE]."""
    app, engine = make_app(model, tokenizer)
    for _ in range(200):
        engine.permits.release()
    async with running(app):
        for _ in range(3):
            client = await fetch(ask(app, stream=True))
            assert client.body.endswith(b"data: [DONE]\n\n")
    assert count(app, "requests_finished_total", reason="length") == 3
    assert count(app, "requests_cancelled_total") == 0


async def test_leaving_when_all_is_generated_but_not_all_written_counts_as_finished(
    model: Model, tokenizer: Tokenizer
) -> None:
    app, engine = make_app(model, tokenizer)
    for _ in range(200):
        engine.permits.release()
    async with running(app), trio.open_nursery() as clients:
        whole = await fetch(ask(app, stream=True))
        writes = whole.body.count(b'"finish_reason":null') + 1
        client = ask(app, stream=True, reads=writes - 1)
        clients.start_soon(client.run)
        await settled(app.service.default.decoder)
        assert not client.ended
        client.leave()
    assert count(app, "requests_finished_total", reason="length") == 2
    assert count(app, "requests_cancelled_total") == 0


async def test_a_gone_client_disturbs_no_neighbour(model: Model, tokenizer: Tokenizer) -> None:
    app, engine = make_app(model, tokenizer, slots=3)
    for _ in range(1000):
        engine.permits.release()
    async with running(app), trio.open_nursery() as clients:
        alone = await fetch(ask(app, stream=True))
        leaver, stopped, reader = (
            ask(app, stream=True, reads=2),
            ask(app, stream=True, reads=5),
            ask(app, stream=True),
        )
        for client in (leaver, stopped, reader):
            clients.start_soon(client.run)
        await settled(app.service.default.decoder)
        leaver.leave()
        await settled(app.service.default.decoder)
        assert reader.ended
        assert reader.text == alone.text
        stopped.read(1000)
        await settled(app.service.default.decoder)
        assert stopped.text == alone.text
