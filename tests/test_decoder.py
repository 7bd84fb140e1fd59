"""The decoder with the real engine: who is stepped, who is parked, when a slot is free."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from penstock.decoder import Decoder
from penstock.engine.model import Model
from penstock.engine.sequence import Sampled
from penstock.engine_thread import EngineThread
from penstock.reader import TokenSequence
from penstock.requests import Prompt
from tests.peers import (
    CHUNK,
    GatedEngine,
    WatchedEngine,
    alone,
    make_decoder,
    make_engine,
    make_prompt,
    settled,
)


async def read(sequence: TokenSequence, count: int) -> list[Sampled]:
    return [await sequence.next_token() for _ in range(count)]


async def read_all(decoder: Decoder, prompt: Prompt, out: dict[Prompt, list[Sampled]]) -> None:
    out[prompt] = []
    with decoder.open(prompt) as [sequence]:
        while not out[prompt] or out[prompt][-1].end is None:
            out[prompt].append(await sequence.next_token())


async def test_more_sequences_than_slots_all_get_their_own_tokens(model: Model) -> None:
    prompts = [make_prompt(3 + 7 * i, seed=i, temperature=i % 2) for i in range(12)]
    expected = {prompt: alone(make_engine(model), prompt) for prompt in prompts}
    decoder = make_decoder(make_engine(model, slots=4), slots=4)
    made: dict[Prompt, list[Sampled]] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as readers:
            for prompt in prompts:
                readers.start_soon(read_all, decoder, prompt, made)
        nursery.cancel_scope.cancel()
    assert made == expected
    assert decoder.schedule.free == 4
    assert repr(decoder.engine) == "<Engine <Slots 0 of 4 in use>>"


async def test_sixteen_streams_share_each_step(model: Model) -> None:
    """All progress together: far fewer steps than tokens."""
    prompts = [make_prompt(seed=i, max_tokens=20) for i in range(16)]
    decoder = make_decoder(make_engine(model))
    made: dict[Prompt, list[Sampled]] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as readers:
            for prompt in prompts:
                readers.start_soon(read_all, decoder, prompt, made)
        nursery.cancel_scope.cancel()
    assert [len(tokens) for tokens in made.values()] == [20] * 16
    assert decoder.rows == 16 * 19
    assert decoder.steps < 5 * 19


@pytest.mark.parametrize("lookahead", [0, 1, 3])
async def test_a_reader_that_stops_is_parked_after_the_lookahead(
    model: Model, lookahead: int
) -> None:
    """Its row is in no step, while eight others run to their end undisturbed."""
    engine = WatchedEngine(model)
    decoder = make_decoder(engine, lookahead=lookahead)
    stopped = make_prompt(seed=99, max_tokens=50)
    others = [make_prompt(seed=i, max_tokens=30) for i in range(8)]
    expected = {prompt: alone(make_engine(model), prompt) for prompt in others}
    made: dict[Prompt, list[Sampled]] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        with decoder.open(stopped) as [sequence]:
            await read(sequence, 3)
            await settled(decoder)
            assert sequence.computed == 3 + lookahead
            before = engine.turns_of(stopped)
            async with trio.open_nursery() as readers:
                for prompt in others:
                    readers.start_soon(read_all, decoder, prompt, made)
            assert engine.turns_of(stopped) == before
            assert sequence.computed == 3 + lookahead
            assert decoder.schedule.parked == 1
            rest = await read(sequence, 47)
        nursery.cancel_scope.cancel()
    assert made == expected
    assert rest == alone(make_engine(model), stopped)[3:]


async def leave_when_cancelled(decoder: Decoder, prompt: Prompt, reads: int) -> None:
    with decoder.open(prompt) as [sequence]:
        await read(sequence, reads)
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("length", "reads", "turns_before"),
    [(3 * CHUNK, 1, 0), (3 * CHUNK, 1, 1), (5, 9, 4)],
    ids=["first chunk", "later chunk", "decode"],
)
async def test_a_slot_is_free_when_the_running_turn_ends(
    model: Model, length: int, reads: int, turns_before: int
) -> None:
    """Counted in turns: the one that is running when the reader leaves is the last of it."""
    engine = GatedEngine(model, slots=1)
    decoder = make_decoder(engine, slots=1)
    prompt = make_prompt(length, max_tokens=40)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as readers:
            readers.start_soon(leave_when_cancelled, decoder, prompt, reads)
            for _ in range(turns_before):
                engine.permits.release()
            await entered(engine, turns_before + 1)
            readers.cancel_scope.cancel()
        assert decoder.schedule.free == 0
        engine.permits.release()
        await settled(decoder)
        assert decoder.schedule.free == 1
        assert engine.turns_of(prompt) == turns_before + 1
        assert repr(engine) == "<Engine <Slots 0 of 1 in use>>"
        nursery.cancel_scope.cancel()


async def test_leaving_while_parked_or_queued_costs_no_turn(model: Model) -> None:
    engine = WatchedEngine(model, slots=1)
    decoder = make_decoder(engine, slots=1)
    parked, queued = make_prompt(seed=1), make_prompt(seed=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as readers:
            readers.start_soon(leave_when_cancelled, decoder, parked, 2)
            await settled(decoder)
            readers.start_soon(leave_when_cancelled, decoder, queued, 2)
            await settled(decoder)
            assert (decoder.schedule.parked, decoder.schedule.waiting) == (1, 1)
            turns = len(engine.turns)
            readers.cancel_scope.cancel()
        assert (decoder.schedule.free, decoder.schedule.waiting) == (1, 0)
        await settled(decoder)
        assert len(engine.turns) == turns
        assert engine.turns_of(queued) == 0
        nursery.cancel_scope.cancel()


async def test_a_token_that_was_being_waited_for_is_not_lost_by_a_cancelled_wait(
    model: Model,
) -> None:
    engine = GatedEngine(model, slots=1)
    decoder = make_decoder(engine, slots=1)
    prompt = make_prompt()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        with decoder.open(prompt) as [sequence]:
            with trio.move_on_after(0):
                await sequence.next_token()
            for _ in range(20):
                engine.permits.release()
            made = await read(sequence, 12)
        nursery.cancel_scope.cancel()
    assert made == alone(make_engine(model), prompt)


async def test_a_busy_decoder_can_be_cancelled_between_two_turns(model: Model) -> None:
    decoder = make_decoder(make_engine(model, slots=1), slots=1)
    made: dict[Prompt, list[Sampled]] = {}
    prompt = make_prompt(max_tokens=180)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all, decoder, prompt, made)
        async with trio.open_nursery() as decoding:
            decoding.start_soon(decoder.run)
            while len(made.get(prompt, [])) < 5:
                await trio.lowlevel.checkpoint()
            decoding.cancel_scope.cancel()
        assert len(made[prompt]) < 20
        nursery.cancel_scope.cancel()


async def test_a_job_that_begins_late_does_not_spoil_later_hand_overs() -> None:
    """Each run waits for its own job to begin, so no token of an older one may stay."""
    with EngineThread() as thread:
        thread._begun.put(None)
        for _ in range(5):
            await thread.run(lambda: None)
        assert thread._begun.empty()


async def entered(engine: GatedEngine, turns: int) -> None:
    """Return when the engine's thread stands at its gate for the given turn."""
    with trio.fail_after(20):
        while engine.entered < turns:
            await wait_all_tasks_blocked()
