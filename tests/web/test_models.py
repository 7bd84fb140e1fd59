"""Several models in one server: one thread, one step at a time, and each its own slots."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from penstock.build import assemble, make_engine, make_service, serve_engine
from penstock.decoder import Decoder
from penstock.engine.engine import Engine
from penstock.engine.interrupt import Interrupt
from penstock.engine.model import Model
from penstock.engine.sequence import EngineSequence, Result
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.engine_thread import EngineThread
from penstock.schedule import Schedule
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.engine.layouts import CASES, MODELS, opened
from tests.peers import CHUNK, MAX_LEN, GatedEngine, make_prompt, settled

TEXT = "/v1/completions"
ASK = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, "ignore_eos": True}


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    """The embedded model as `big`, and one of two layers as `small`, with a slot each."""
    settings = Settings(slots=1, queue=4, max_len=128)
    thread = EngineThread()
    small, words = opened(CASES[0].path), load_tokenizer(MODELS / CASES[0].path)
    return App(
        make_service(
            settings,
            [
                serve_engine(settings, "big", make_engine(settings, model), tokenizer, thread),
                serve_engine(settings, "small", make_engine(settings, small), words, thread),
            ],
            thread,
        )
    )


async def ask(app: App, **fields: object) -> MemoryClient:
    return await fetch(post(app, TEXT, {**ASK, **fields}))


async def test_all_are_listed_and_each_answers_under_its_name(app: App) -> None:
    async with running(app):
        listed = (await fetch(MemoryClient(app, "GET", "/v1/models"))).json["data"]
        answers = {name: (await ask(app, model=name)).json for name in ("big", "small")}
        first = (await ask(app)).json
    assert [model["id"] for model in listed] == ["big", "small"]
    assert {name: told["model"] for name, told in answers.items()} == {
        "big": "big",
        "small": "small",
    }
    assert answers["big"]["choices"] != answers["small"]["choices"]
    assert (first["model"], first["choices"]) == ("big", answers["big"]["choices"])


async def test_one_model_can_be_asked_for_and_an_unknown_one_is_not_there(app: App) -> None:
    async with running(app):
        small = await fetch(MemoryClient(app, "GET", "/v1/models/small"))
        default = await fetch(MemoryClient(app, "GET", "/v1/models/default"))
        missing = [
            await fetch(MemoryClient(app, "GET", "/v1/models/huge")),
            await ask(app, model="huge"),
        ]
    assert (small.json["id"], default.json["id"]) == ("small", "big")
    for client in missing:
        assert (client.status, client.json["error"]["code"]) == (404, "model_not_found")
    assert "'big', 'small'" in missing[1].json["error"]["message"]


async def test_a_reader_that_stops_holds_up_neither_model(app: App) -> None:
    async with running(app), trio.open_nursery() as streams:
        stopped = post(app, TEXT, {**ASK, "model": "big", "stream": True}, reads=1)
        streams.start_soon(stopped.run)
        small = await ask(app, model="small")
        assert small.status == 200
        assert not stopped.ended
        stopped.read(1000)


async def test_a_token_beyond_the_models_words_is_refused_before_it_can_fail(
    tokenizer: Tokenizer,
) -> None:
    """A tokenizer that knows more than the model: its other prompts are good."""
    settings = Settings(slots=1, max_len=64)
    engine = make_engine(settings, opened(CASES[0].path))
    app = App(assemble(settings, "mixed", engine, tokenizer))
    async with running(app):
        refused = await ask(app)
        taken = await ask(app, prompt="!")
    assert (refused.status, refused.json["error"]["param"]) == (400, "prompt")
    assert "no embedding" in refused.json["error"]["message"]
    assert taken.status == 200


class Recorded(Engine):
    """Writes down whose turn it was."""

    def __init__(self, model: Model, name: str, turns: list[str]) -> None:
        super().__init__(model, slots=4, max_len=MAX_LEN, prefill_chunk=CHUNK)
        self._name, self._turns = name, turns

    def prefill(self, sequence: EngineSequence, interrupt: Interrupt | None = None) -> Result:
        self._turns.append(self._name)
        return super().prefill(sequence, interrupt)

    def step(self, sequences: list[EngineSequence]) -> list[Result]:  # type: ignore[override]
        self._turns.append(self._name)
        return super().step(sequences)


async def test_models_that_both_have_work_take_turns(model: Model) -> None:
    turns: list[str] = []
    thread = EngineThread()
    decoders = [Decoder(Recorded(model, name, turns), Schedule(4), thread) for name in "ab"]

    async def read(decoder: Decoder) -> None:
        with decoder.open(make_prompt(3 * CHUNK, max_tokens=30)) as [sequence]:
            while (await sequence.next_token()).end is None:
                pass

    async with trio.open_nursery() as nursery:
        for decoder in decoders:
            nursery.start_soon(decoder.run)
        async with trio.open_nursery() as readers:
            for decoder in decoders:
                readers.start_soon(read, decoder)
        nursery.cancel_scope.cancel()
    assert turns.count("a") == turns.count("b") == 3 + 29
    # Slots are given in turns that are not recorded, so one may come twice, once, at the start.
    assert "aaa" not in "".join(turns)
    assert "bbb" not in "".join(turns)
    assert "".join(turns).count("ab") >= 28


async def test_a_slot_freed_while_its_decoder_waits_for_its_turn_can_be_given_on(
    model: Model,
) -> None:
    """The schedule knew that it was free and the engine did not yet: the next sequence failed."""
    thread, gated = EngineThread(), GatedEngine(model, slots=1)
    decoder = Decoder(make_small(model), Schedule(1), thread)
    other = Decoder(gated, Schedule(1), thread)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        nursery.start_soon(other.run)
        leaving = ExitStack()
        [leaver] = leaving.enter_context(decoder.open(make_prompt(seed=2)))
        await leaver.next_token()
        await settled(decoder)
        with other.open(make_prompt(seed=1)), trio.fail_after(20):
            while not gated.entered:
                await trio.lowlevel.checkpoint()
            with decoder.open(make_prompt(seed=3)) as [follower]:
                await wait_all_tasks_blocked()
                leaving.close()
                gated.permits.release(1000)
                await follower.next_token()
        nursery.cancel_scope.cancel()


def make_small(model: Model) -> Engine:
    return Engine(model, slots=1, max_len=MAX_LEN, prefill_chunk=CHUNK)
