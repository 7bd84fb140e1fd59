"""More streams than slots: those that nobody reads lend their slots to those that are read."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.decoder import Decoder
from penstock.engine.model import Model
from penstock.engine.sequence import EngineSequence
from penstock.engine.tokenizer import Tokenizer
from penstock.engine_thread import EngineThread
from penstock.requests import Prompt
from penstock.schedule import Schedule
from tests.peers import WatchedEngine, make_prompt, settled
from tests.test_generation import Stream, reference

SLOTS, READERS, STOPPED = 16, 16, 48


class AdmittingEngine(WatchedEngine):
    """The real engine, with a record of who was given a slot, in order."""

    admitted: list[Prompt]

    def admit(self, sequence: EngineSequence) -> None:
        self.admitted.append(sequence.prompt)
        super().admit(sequence)


async def all_ended(streams: list[Stream]) -> None:
    while any(stream.live.terminal is None for stream in streams):
        await wait_all_tasks_blocked()


async def grace_passes(decoder: Decoder, clock: MockClock) -> None:
    """Until all that wait for a slot have had one."""
    await settled(decoder)
    while decoder.schedule.waiting:
        clock.jump(1)
        await settled(decoder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "budget",
    [
        pytest.param(1 << 30, id="copied", marks=pytest.mark.heavy),
        pytest.param(4_000_000, id="some"),
        pytest.param(0, id="rebuilt", marks=pytest.mark.heavy),
    ],
)
async def test_48_stopped_streams_cost_16_readers_no_step_and_go_on_unharmed(
    mock_clock: MockClock, model: Model, tokenizer: Tokenizer, budget: int
) -> None:
    """Time stands still but for the graces that the test lets pass."""
    engine = AdmittingEngine(model, slots=SLOTS, parked_kv_bytes=budget)
    engine.admitted = []
    decoder = Decoder(engine, Schedule(SLOTS, park_grace_s=1, quantum_s=1), EngineThread())
    stopped, readers = (
        [
            Stream(decoder, tokenizer, make_prompt(3 + i % 30, seed=first + i, max_tokens=24))
            for i in range(count)
        ]
        for first, count in ((0, STOPPED), (100, READERS))
    )
    expected = [reference(model, tokenizer, s.source.prompt) for s in (*stopped, *readers)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as streams:
            for stream in stopped:
                stream.sink.allow(4)
                streams.start_soon(stream.run)
            schedule = decoder.schedule
            await grace_passes(decoder, mock_clock)
            assert (schedule.waiting, schedule.parked + schedule.evicted) == (0, STOPPED)
            assert schedule.parked <= SLOTS

            turns = {stream: engine.turns_of(stream.source.prompt) for stream in stopped}
            for stream in readers:
                stream.sink.allow(1000)
                streams.start_soon(stream.run)
            await settled(decoder)
            mock_clock.jump(1)
            await all_ended(readers)
            assert turns == {stream: engine.turns_of(stream.source.prompt) for stream in stopped}

            await settled(decoder)
            assert (schedule.waiting, schedule.parked + schedule.evicted) == (0, STOPPED)
            engine.admitted.clear()
            without_slot = [s for s in stopped if not engine.slots.holds(key_of(decoder, s))]
            for stream in stopped:
                stream.sink.allow(1000)
            await all_ended(stopped)
            # Each is given a slot once and keeps it to its end; test_schedule has their order.
            assert sorted(map(id, engine.admitted)) == sorted(
                id(stream.source.prompt) for stream in without_slot
            )
        nursery.cancel_scope.cancel()
    assert [stream.sink.text for stream in (*stopped, *readers)] == expected
    assert (engine.parked.dropped > 0) == (budget < 1 << 30)
    assert repr(engine) == f"<Engine <Slots 0 of {SLOTS} in use>>"


def key_of(decoder: Decoder, stream: Stream) -> int:
    return next(
        sequence.key
        for sequence in decoder._opened.values()
        if sequence.prompt is stream.source.prompt
    )


async def test_one_slot_goes_round_between_readers_that_pause(
    mock_clock: MockClock, model: Model, tokenizer: Tokenizer
) -> None:
    """Three streams, one slot, each read two events at a time: all get whole texts."""
    engine = WatchedEngine(model, slots=1, parked_kv_bytes=0)
    decoder = Decoder(engine, Schedule(1, park_grace_s=1, quantum_s=1), EngineThread())
    streams = [Stream(decoder, tokenizer, make_prompt(4, seed=i, max_tokens=10)) for i in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as running:
            for stream in streams:
                running.start_soon(stream.run)
            for _ in range(20):
                for stream in streams:
                    stream.sink.allow(2)
                    await grace_passes(decoder, mock_clock)
        nursery.cancel_scope.cancel()
    for stream in streams:
        assert stream.sink.text == reference(model, tokenizer, stream.source.prompt)
    assert decoder.schedule.evictions >= 3
