"""/ready tells whether the model makes tokens, not whether the process is there."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.build import assemble
from penstock.engine.interrupt import Interrupt
from penstock.engine.model import Model
from penstock.engine.sequence import EngineSequence, Result
from penstock.engine.tokenizer import Tokenizer
from penstock.readiness import STUCK_S
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import GatedEngine, WatchedEngine, make_decoder, make_prompt

ASK = {"prompt": "Once", "max_tokens": 4}


class Sick(WatchedEngine):
    """Fails every prompt while it is `ill`."""

    ill = True

    def prefill(self, sequence: EngineSequence, interrupt: Interrupt | None = None) -> Result:
        if self.ill:
            raise RuntimeError("ill")
        return super().prefill(sequence, interrupt)


async def ready(app: App) -> tuple[int, str | None]:
    client = await fetch(MemoryClient(app, "GET", "/ready"))
    return client.status, client.json.get("reason")


async def test_a_model_that_fails_is_not_ready_until_it_works_again(
    model: Model, tokenizer: Tokenizer
) -> None:
    engine = Sick(model, slots=2)
    app = App(assemble(Settings(slots=2), "default", engine, tokenizer))
    async with running(app):
        await wait_all_tasks_blocked()
        assert await ready(app) == (200, None)
        assert (await fetch(post(app, "/v1/completions", ASK))).status == 500
        assert await ready(app) == (503, "the model default fails")
        engine.ill = False
        assert await ready(app) == (200, None)
        assert (await fetch(post(app, "/v1/completions", ASK))).status == 200
    assert app.service.default.decoder.schedule.free == 2


async def test_giving_a_slot_says_nothing_of_the_model(model: Model) -> None:
    engine = GatedEngine(model, slots=1)
    decoder = make_decoder(engine, slots=1)
    decoder.suspect = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        with decoder.open(make_prompt()) as [sequence]:
            while not engine.entered:
                await trio.lowlevel.checkpoint()
            before = decoder.suspect
            engine.permits.release()
            await sequence.next_token()
            assert (before, decoder.suspect) == (True, False)
            engine.permits.release(100)
        nursery.cancel_scope.cancel()


async def test_who_asks_meanwhile_shares_the_trial(model: Model, tokenizer: Tokenizer) -> None:
    engine = Sick(model, slots=1)
    app = App(assemble(Settings(slots=1), "default", engine, tokenizer))
    decoder, answers = app.service.default.decoder, list[bool]()

    async def ask() -> None:
        answers.append(await decoder.works())

    async with running(app):
        await fetch(post(app, "/v1/completions", ASK))
        engine.ill = False
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask)
            while not answers:
                assert decoder.schedule.waiting <= 1
                await trio.lowlevel.checkpoint()
    assert answers == [True] * 6
    assert len(engine.turns) == 1


async def test_one_sequence_that_fails_among_others_says_nothing_of_the_model(
    model: Model, tokenizer: Tokenizer
) -> None:
    engine = Sick(model, slots=2)
    app = App(assemble(Settings(slots=2), "default", engine, tokenizer))
    async with running(app):
        await fetch(post(app, "/v1/completions", ASK))
        engine.ill = False
        await fetch(post(app, "/v1/completions", ASK))
        before = len(engine.turns)
        assert await ready(app) == (200, None)
        assert len(engine.turns) == before


@pytest.mark.parametrize("waited_s", [STUCK_S - 1, STUCK_S + 1])
async def test_a_step_that_does_not_come_back_is_not_ready(
    model: Model, tokenizer: Tokenizer, mock_clock: MockClock, waited_s: float
) -> None:
    engine = GatedEngine(model, slots=1)
    app = App(assemble(Settings(slots=1), "default", engine, tokenizer))
    async with running(app), trio.open_nursery() as nursery:
        asked = post(app, "/v1/completions", {**ASK, "max_tokens": 1})
        nursery.start_soon(asked.run)
        while not engine.entered:
            await trio.lowlevel.checkpoint()
        mock_clock.jump(waited_s)
        stuck = await ready(app)
        engine.permits.release()
    assert stuck == (
        (200, None) if waited_s < STUCK_S else (503, "the model does not come back from a step")
    )
