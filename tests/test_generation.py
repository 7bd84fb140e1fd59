"""A live generation through the pipeline: the published bound, the text, the slot."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from penstock import pipeline
from penstock.decoder import Decoder
from penstock.engine.model import Model
from penstock.engine.text import TextStream
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import internal
from penstock.events import Delta, Failed, Finished, Token
from penstock.generation import Generation
from penstock.live import Live
from penstock.pipeline import Pace
from penstock.requests import Prompt
from tests.checkpoints import cancel_everywhere
from tests.peers import (
    CHUNK,
    GatedSink,
    PlainEncoder,
    WatchedEngine,
    alone,
    make_decoder,
    make_engine,
    make_prompt,
    settled,
)

PACE = Pace(heartbeat_s=1e6, stall_deadline_s=1e6)


class Stream:
    """One generation and its sink."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, prompt: Prompt, stops: tuple[str, ...] = ()
    ) -> None:
        self.sink = GatedSink()
        self.live = Live()
        self.source = Generation(decoder, prompt, partial(TextStream, tokenizer.vocabulary, stops))

    async def run(self) -> None:
        await pipeline.run(self.live, self.source, PlainEncoder(), self.sink, pace=PACE)


def reference(model: Model, tokenizer: Tokenizer, prompt: Prompt) -> str:
    text = TextStream(tokenizer.vocabulary, ())
    made = alone(make_engine(model), prompt)
    return "".join(text.push(token.token_id) for token in made) + text.flush()


def computed(decoder: Decoder, stream: Stream) -> int:
    return next(
        reader.computed
        for reader in decoder._readers.values()
        if reader.prompt is stream.source.prompt
    )


@pytest.mark.parametrize("lookahead", [0, 1, 2])
@pytest.mark.parametrize("neighbours", [0, 8])
async def test_no_more_is_computed_than_the_published_bound(
    model: Model, tokenizer: Tokenizer, lookahead: int, neighbours: int
) -> None:
    """tokens computed - through of the last completed write <= lookahead + 2 + held tokens."""
    engine = WatchedEngine(model)
    decoder = make_decoder(engine, lookahead=lookahead)
    prompt = make_prompt(seed=7, max_tokens=60, temperature=1.0)
    stopped = Stream(decoder, tokenizer, prompt)
    others = [
        Stream(decoder, tokenizer, make_prompt(seed=20 + i, max_tokens=40))
        for i in range(neighbours)
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as streams:
            streams.start_soon(stopped.run)
            for writes in (0, 1, 4, 9):
                stopped.sink.allow(writes)
                await settled(decoder)
                held = computed(decoder, stopped) - stopped.source.made
                assert held <= lookahead
                assert stopped.sink.blocked
                ahead = computed(decoder, stopped) - stopped.sink.through
                undecided = sum(len(choice._unsent) for choice in stopped.source._choices)
                assert ahead <= lookahead + 2 + undecided
            turns, made = engine.turns_of(prompt), computed(decoder, stopped)
            for other in others:
                other.sink.allow(1000)
                streams.start_soon(other.run)
            while any(other.live.terminal is None for other in others):
                await wait_all_tasks_blocked()
            assert (engine.turns_of(prompt), computed(decoder, stopped)) == (turns, made)
            stopped.sink.allow(1000)
        nursery.cancel_scope.cancel()
    assert stopped.sink.text == reference(model, tokenizer, prompt)
    for other in others:
        assert other.sink.text == reference(model, tokenizer, other.source.prompt)


async def test_the_bound_is_reached_so_it_is_tight(model: Model, tokenizer: Tokenizer) -> None:
    decoder = make_decoder(make_engine(model))
    stream = Stream(decoder, tokenizer, make_prompt(max_tokens=60))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        nursery.start_soon(stream.run)
        stream.sink.allow(5)
        await settled(decoder)
        assert computed(decoder, stream) - stream.sink.through == 3
        nursery.cancel_scope.cancel()


async def finished(model: Model, tokenizer: Tokenizer, prompt: Prompt, *stops: str) -> Stream:
    decoder = make_decoder(make_engine(model))
    stream = Stream(decoder, tokenizer, prompt, stops)
    stream.sink.allow(1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        await stream.run()
        nursery.cancel_scope.cancel()
    assert decoder.schedule.free == 16
    return stream


async def test_a_stop_string_ends_it_with_stop_and_its_tokens_count(
    model: Model, tokenizer: Tokenizer
) -> None:
    prompt = make_prompt(max_tokens=40)
    whole = reference(model, tokenizer, prompt)
    stop = whole[len(whole) // 2 :][:6]
    stream = await finished(model, tokenizer, prompt, stop)
    assert stream.sink.text == whole[: whole.index(stop)]
    assert isinstance(stream.live.terminal, Finished)
    assert stream.live.terminal.finish_reason == "stop"
    usage = stream.live.terminal.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, stream.source.made)
    assert 0 < stream.source.made < 40


async def test_length_means_exactly_max_tokens(model: Model, tokenizer: Tokenizer) -> None:
    stream = await finished(model, tokenizer, make_prompt(max_tokens=17))
    assert isinstance(stream.live.terminal, Finished)
    assert stream.live.terminal.finish_reason == "length"
    assert stream.live.terminal.usage.completion_tokens == 17
    assert stream.live.terminal.through == 17


def reported(stream: Stream) -> list[Token]:
    """The tokens of all events of a stream, in order."""
    events = [event for event in stream.sink.written if isinstance(event, Delta | Finished)]
    return [token for event in events for token in event.tokens]


@pytest.mark.parametrize("ignore_eos", [True, False])
@pytest.mark.parametrize("seed", range(4))
async def test_events_report_every_token_once_and_deltas_are_never_empty(
    model: Model, tokenizer: Tokenizer, seed: int, ignore_eos: bool
) -> None:
    prompt = make_prompt(seed=seed, max_tokens=100, temperature=2.0, ignore_eos=ignore_eos)
    stream = await finished(model, tokenizer, replace(prompt, logprobs=2))
    assert reported(stream) == alone(make_engine(model), replace(prompt, logprobs=2))
    assert all(event.text for event in stream.sink.written if isinstance(event, Delta))
    assert isinstance(stream.live.terminal, Finished)
    assert not stream.live.terminal.cut


async def test_tokens_of_a_stop_string_are_reported_and_the_cut_is_marked(
    model: Model, tokenizer: Tokenizer
) -> None:
    prompt = make_prompt(max_tokens=40)
    whole = reference(model, tokenizer, prompt)
    stream = await finished(model, tokenizer, prompt, whole[len(whole) // 2 :][:6])
    assert isinstance(stream.live.terminal, Finished)
    assert stream.live.terminal.cut == whole[len(whole) // 2 :][:6]
    assert reported(stream) == alone(make_engine(model), prompt)[: stream.source.made]


async def test_cancelled_at_any_point_the_slot_is_free_and_no_task_is_left(
    model: Model, tokenizer: Tokenizer
) -> None:
    decoder = make_decoder(make_engine(model, slots=1), slots=1)
    prompt = make_prompt(40, max_tokens=4)
    expected = reference(model, tokenizer, prompt)
    texts: list[Stream] = []

    async def scenario() -> None:
        texts.append(Stream(decoder, tokenizer, prompt))
        texts[-1].sink.allow(1000)
        await texts[-1].run()

    async def check(cut: bool) -> None:
        await settled(decoder)
        assert decoder.schedule.free == 1
        assert repr(decoder.engine) == "<Engine <Slots 0 of 1 in use>>"
        assert decoder._readers == {}
        assert decoder._opened == {}
        assert expected.startswith(texts[-1].sink.text)
        assert cut or texts[-1].sink.text == expected

    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        assert await cancel_everywhere(scenario, check) > 10
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("lookahead", [0, 2])
async def test_the_bound_holds_for_each_of_several_answers(
    model: Model, tokenizer: Tokenizer, nursery: trio.Nursery, lookahead: int
) -> None:
    prompt = replace(make_prompt(20, temperature=1.0, max_tokens=30), n=3)
    decoder = make_decoder(WatchedEngine(model, parked_kv_bytes=1 << 30), lookahead=lookahead)
    stream = Stream(decoder, tokenizer, prompt)
    nursery.start_soon(decoder.run)
    async with trio.open_nursery() as streams:
        streams.start_soon(stream.run)
        for writes in (0, 1, 3, 8, 20):
            stream.sink.allow(writes)
            await settled(decoder)
            assert stream.sink.blocked
            readers = list(decoder._readers.values())
            for choice, reader in zip(stream.source._choices, readers, strict=True):
                written = [
                    event.through
                    for event in stream.sink.written
                    if isinstance(event, Delta) and event.choice == choice.number
                ]
                ahead = reader.computed - max(written, default=0)
                assert ahead <= lookahead + 2 + len(choice._unsent)
        stream.sink.allow(1000)
    assert isinstance(stream.live.terminal, Finished)
    assert stream.live.terminal.usage.completion_tokens == stream.source.made == 90
    assert (decoder.schedule.free, decoder.schedule.waiting) == (16, 0)


async def test_several_answers_cancelled_anywhere_leave_nothing(
    model: Model, tokenizer: Tokenizer
) -> None:
    prompt = replace(make_prompt(CHUNK + 3, temperature=1.0, max_tokens=2), n=3)
    engine = WatchedEngine(model, slots=2, parked_kv_bytes=1 << 30)
    decoder = make_decoder(engine, slots=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)

        async def scenario() -> None:
            stream = Stream(decoder, tokenizer, prompt)
            stream.sink.allow(1000)
            await stream.run()

        async def check(_: bool) -> None:
            await settled(decoder)
            assert (decoder.schedule.free, decoder.schedule.waiting) == (2, 0)
            assert not decoder._readers
            assert not decoder._opened
            assert engine.parked.bytes == 0

        assert await cancel_everywhere(scenario, check) > 10
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stopped_at", [0, *range(1, 10)])
async def test_several_answers_of_which_one_fails_have_one_ending(
    model: Model, tokenizer: Tokenizer, stopped_at: int
) -> None:
    """Whether or not all of them are stopped in the moment in which it fails."""
    decoder = make_decoder(make_engine(model))
    prompt = replace(make_prompt(temperature=1.0, max_tokens=100), n=2)
    stream = Stream(decoder, tokenizer, prompt)
    stream.sink.allow(3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as reading:
            reading.start_soon(stream.run)
            await settled(decoder)
            entry, reader = next(iter(decoder._readers.items()))
            reader._tokens.clear()
            decoder.schedule.leave(entry)
            reader.fail_nowait(internal())
            stream.sink.allow(1000)
            for tick in range(1, 20):
                await trio.lowlevel.checkpoint()
                if tick == stopped_at:
                    stream.live.stop(internal())
        nursery.cancel_scope.cancel()
    assert isinstance(stream.live.terminal, Failed)
    assert stream.sink.written[-1] is stream.live.terminal
    assert decoder.schedule.free == 16


async def test_a_delta_is_settled_unless_text_is_held_back_or_only_the_end_follows(
    model: Model, tokenizer: Tokenizer
) -> None:
    def deltas_of(stream: Stream) -> list[Delta]:
        assert stream.sink.text == reference(model, tokenizer, prompt)
        return [event for event in stream.sink.written if isinstance(event, Delta)]

    prompt = make_prompt(max_tokens=40)
    deltas = deltas_of(await finished(model, tokenizer, prompt))
    assert [delta.settled for delta in deltas] == [True] * (len(deltas) - 1) + [False]
    word = next(delta.text for delta in deltas[:-1] if len(delta.text) > 1)
    begun = word[-1] + "\x00"
    held = deltas_of(await finished(model, tokenizer, prompt, begun))
    assert not next(delta for delta in held if delta.text == word[:-1]).settled
