"""The pipeline: nothing between source and sink, one ending, and both ends go together."""

from __future__ import annotations

import logging
import math

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock import pipeline
from penstock.errors import CANCELLED, STALLED, PenstockError
from penstock.events import Delta, Ended, Event, Failed, Finished, Token, Usage
from penstock.live import Live
from penstock.pipeline import Emit, Pace
from tests.checkpoints import cancel_everywhere
from tests.peers import GatedSink, PlainEncoder

PACE = Pace(heartbeat_s=15, stall_deadline_s=30)


class Counting:
    """A source of `count` events that says how far it came and whether it was cleaned up."""

    def __init__(self, count: int, *, delay_s: float = 0, error: Exception | None = None) -> None:
        self.count = count
        self.delay_s = delay_s
        self.error = error
        self.made = 0
        self.running = False

    async def __call__(self, emit: Emit) -> Finished:
        self.running = True
        try:
            while self.made < self.count:
                await trio.sleep(self.delay_s)
                self.made += 1
                await emit(Delta("x", (Token(self.made),), self.made))
            if self.error is not None:
                raise self.error
            return Finished("stop", Usage(1, self.made), self.made)
        finally:
            self.running = False


async def run(source: Counting, sink: GatedSink, live: Live | None = None) -> Live:
    live = live or Live()
    await pipeline.run(live, source, PlainEncoder(), sink, pace=PACE)
    return live


async def test_everything_is_written_in_order_and_ends_once() -> None:
    sink = GatedSink(permits=99)
    live = await run(Counting(5), sink)
    assert [event.through for event in sink.written if isinstance(event, Delta)] == [1, 2, 3, 4, 5]
    assert sink.written[-1] is live.terminal
    assert live.terminal == Finished("stop", Usage(1, 5), 5)
    assert sum(isinstance(event, Finished | Failed) for event in sink.written) == 1


@pytest.mark.parametrize("reads", [0, 1, 7])
async def test_a_reader_that_stops_stops_its_source_two_events_on(reads: int) -> None:
    """One event in the writer's hand and one in the source's, and not one more, for ever."""
    source, sink = Counting(100), GatedSink(permits=reads)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, source, sink)
        await wait_all_tasks_blocked()
        assert (sink.blocked, sink.through, source.made) == (True, reads, reads + 2)
        sink.allow(3)
        await wait_all_tasks_blocked()
        assert (sink.through, source.made) == (reads + 3, reads + 5)
        nursery.cancel_scope.cancel()
    assert not source.running


async def test_a_cancelled_reader_takes_its_source_along() -> None:
    source = Counting(100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, source, GatedSink(permits=2))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not source.running


async def test_silence_is_broken_by_heartbeats(autojump_clock: MockClock) -> None:
    sink = GatedSink(permits=99)
    await run(Counting(1, delay_s=50), sink)
    assert sink.written[:3] == [None, None, None]
    assert isinstance(sink.written[3], Delta)
    assert len(sink.written) == 5


async def test_a_write_that_blocks_too_long_ends_the_stream_as_stalled(
    autojump_clock: MockClock,
) -> None:
    source, sink = Counting(100), GatedSink(permits=3)
    live = await run(source, sink)
    assert trio.current_time() == pytest.approx(PACE.stall_deadline_s)
    assert isinstance(live.terminal, Failed)
    assert live.terminal.error.kind.reason == "stalled"
    assert not source.running


@pytest.mark.parametrize("events", [2, 3], ids=["at the terminal", "at the last event"])
async def test_a_stall_after_all_was_computed_is_still_a_stall(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, events: int
) -> None:
    """The source has ended by then, but its reader never gets the end."""
    live = await run(Counting(events), GatedSink(permits=2))
    assert isinstance(live.terminal, Failed)
    assert live.terminal.error.kind.reason == "stalled"
    assert caplog.records == []


async def test_a_sink_that_does_not_open_is_a_stall(autojump_clock: MockClock) -> None:
    class ShutSink(GatedSink):
        async def open(self) -> None:
            await trio.sleep_forever()

    source = Counting(3)
    live = await run(source, ShutSink())
    assert trio.current_time() == pytest.approx(PACE.stall_deadline_s)
    assert isinstance(live.terminal, Failed)
    assert not source.running


async def test_what_was_computed_but_not_delivered_is_not_told_as_whole() -> None:
    """Stopped while its last event is held back: the reader is told so, and not `complete`."""
    sink, live = GatedSink(permits=1), Live()
    error = PenstockError(CANCELLED, "enough")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Counting(2), sink, live)
        await wait_all_tasks_blocked()
        assert str(live.terminal).startswith("Finished")
        live.stop(error)
        sink.allow(9)
    assert sink.written[-1] == live.terminal == Failed(error)


async def test_an_end_that_is_reached_while_being_stopped_is_not_told_as_whole() -> None:
    """The source has been given its turn when the stop comes, and ends without another wait."""
    live, error = Live(), PenstockError(CANCELLED, "enough")

    class StoppingSink(GatedSink):
        async def write(self, data: bytes, event: Event | None) -> None:
            if isinstance(event, Delta) and event.through == 2:
                live.stop(error)
            await super().write(data, event)

    sink = StoppingSink(permits=99)
    await run(Counting(2), sink, live)
    assert sink.written[-1] == live.terminal == Failed(error)


async def test_a_reader_that_comes_back_in_time_gets_every_event(autojump_clock: MockClock) -> None:
    source, sink = Counting(10), GatedSink(permits=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, source, sink)
        for _ in range(8):
            await trio.sleep(PACE.stall_deadline_s - 1)
            sink.allow(1)
    assert len(sink.written) == 11
    assert isinstance(sink.written[-1], Finished)


async def test_an_error_of_the_source_is_the_last_event() -> None:
    sink = GatedSink(permits=99)
    error = PenstockError(CANCELLED, "enough")
    live = await run(Counting(2, error=error), sink)
    assert sink.written[-1] == live.terminal == Failed(error)


async def test_a_bug_in_the_source_is_logged_and_told_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = GatedSink(permits=99)
    with caplog.at_level(logging.CRITICAL):
        await run(Counting(2, error=KeyError("secret")), sink)
    terminal = sink.written[-1]
    assert isinstance(terminal, Failed)
    assert terminal.error.kind.code == "internal_error"
    assert "secret" not in terminal.error.message


async def test_a_stopped_generation_still_tells_its_reader_why() -> None:
    source, sink, live = Counting(100), GatedSink(permits=2), Live()
    error = PenstockError(CANCELLED, "enough")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, source, sink, live)
        await wait_all_tasks_blocked()
        live.stop(error)
        await wait_all_tasks_blocked()
        assert sink.released
        assert not source.running
        sink.allow(5)
    assert sink.written[-1] == live.terminal == Failed(error)


async def test_stopping_twice_or_after_the_end_changes_nothing() -> None:
    live = await run(Counting(1), GatedSink(permits=9))
    live.stop(PenstockError(CANCELLED, "late"))
    assert isinstance(live.terminal, Finished)
    assert live.end(Failed(PenstockError(CANCELLED, "late"))) is live.terminal


class SlowSink(GatedSink):
    """Takes `write_s` for each byte; before that it may be long in wanting any."""

    def __init__(self, *, write_s: float, permit_s: float = 0) -> None:
        super().__init__(permits=10_000)
        self.write_s = write_s
        self.permit_s = permit_s

    async def permit(self, event: object) -> bool:
        await trio.sleep(self.permit_s)
        return True

    async def write(self, data: bytes, event: Event | None) -> None:
        await trio.sleep(self.write_s * len(data))
        await super().write(data, event)


async def run_slow(sink: SlowSink, *, bytes_s: float, events: int = 100) -> Live:
    live, pace = Live(), Pace(heartbeat_s=15, stall_deadline_s=30, min_drain_bytes_s=bytes_s)
    await pipeline.run(live, Counting(events), PlainEncoder(), sink, pace=pace)
    return live


async def test_a_reader_slower_than_the_pace_ends_as_stalled(autojump_clock: MockClock) -> None:
    """Each write is in time, and all of them would take a quarter of an hour."""
    sink = SlowSink(write_s=9)
    live = await run_slow(sink, bytes_s=1)
    assert isinstance(live.terminal, Failed)
    assert live.terminal.error.kind is STALLED
    # Each write takes 8 s more than its byte is worth.
    assert len(sink.written) == 3
    assert trio.current_time() < 60


async def test_a_reader_as_fast_as_the_pace_is_served(autojump_clock: MockClock) -> None:
    live = await run_slow(SlowSink(write_s=1), bytes_s=1)
    assert isinstance(live.terminal, Finished)


async def test_without_a_pace_only_the_deadline_counts(autojump_clock: MockClock) -> None:
    live = await run_slow(SlowSink(write_s=29), bytes_s=0)
    assert isinstance(live.terminal, Finished)


async def test_waiting_for_credits_is_no_slow_reading(autojump_clock: MockClock) -> None:
    live = await run_slow(SlowSink(write_s=0, permit_s=29), bytes_s=1)
    assert isinstance(live.terminal, Finished)


async def test_an_error_of_the_sink_comes_out_and_ends_the_source() -> None:
    class BrokenSink(GatedSink):
        async def write(self, data: bytes, event: object) -> None:
            raise BrokenPipeError

    source = Counting(100)
    with pytest.RaisesGroup(BrokenPipeError):
        await run(source, BrokenSink())
    assert not source.running


async def test_a_source_that_is_cancelled_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    """It has an event at hand just when the writer is gone."""

    class Eager(Counting):
        async def __call__(self, emit: Emit) -> Finished:
            while True:
                await emit(Delta("x", (Token(1),), 1))

    class LeavingSink(GatedSink):
        async def write(self, data: bytes, event: object) -> None:
            await trio.lowlevel.checkpoint()
            raise BrokenPipeError

    live = Live()
    with pytest.RaisesGroup(BrokenPipeError):
        await run(Eager(1), LeavingSink(), live)
    assert live.terminal is None
    assert not caplog.records


async def test_cancelled_at_any_point_it_leaves_nothing_behind() -> None:
    """For every scheduling point: no task, one ending at the most, whole events only."""
    state: list[tuple[Counting, GatedSink, Live]] = []

    async def scenario() -> None:
        state.append((Counting(4), GatedSink(permits=99), Live()))
        await run(*state[-1])

    async def check(cut: bool) -> None:
        source, sink, live = state[-1]
        assert not source.running
        covered = [event.through for event in sink.written if isinstance(event, Delta)]
        assert covered == list(range(1, len(covered) + 1))
        if not cut:
            assert isinstance(live.terminal, Finished)
        terminals = [event for event in sink.written if isinstance(event, Finished | Failed)]
        assert terminals in ([], [live.terminal])

    assert await cancel_everywhere(scenario, check) > 15


class RoomySink(GatedSink):
    """Takes `room` events at once, then half of one, and the rest as a reader that has stopped."""

    def __init__(self, *, room: float, permits: float = 0) -> None:
        super().__init__(permits=permits)
        self.room = room
        self.begun: Event | None = None

    def write_nowait(self, data: bytes, event: Delta | Ended) -> bool:
        if self.room <= 0:
            self.begun = event
            return False
        self.room -= 1
        self.written.append(event)
        return True

    async def write(self, data: bytes, event: Event | None) -> None:
        assert self.begun in (None, event)
        self.begun = None
        await super().write(data, event)


class Ready(Counting):
    """A source that never has to wait."""

    async def __call__(self, emit: Emit) -> Finished:
        while self.made < self.count:
            self.made += 1
            await emit(Delta("x", (Token(self.made),), self.made))
        return Finished("stop", Usage(1, self.made), self.made)


@pytest.mark.parametrize("kind", [Counting, Ready])
@pytest.mark.parametrize("room", [0, 1, 7, 99])
async def test_what_the_wire_takes_at_once_is_written_in_order(
    kind: type[Counting], room: int
) -> None:
    sink = RoomySink(room=room, permits=99)
    live = await run(kind(40), sink)
    assert [each.through for each in sink.written if isinstance(each, Delta)] == [*range(1, 41)]
    assert sink.written[-1] == live.terminal == Finished("stop", Usage(1, 40), 40)
    assert live.flow.delivered == 40


@pytest.mark.parametrize("room", [0, 1, 7])
async def test_a_wire_that_is_full_stops_the_source_two_events_on(room: int) -> None:
    source, sink = Ready(100), RoomySink(room=room)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, source, sink)
        await wait_all_tasks_blocked()
        written = len(sink.written)
        assert (sink.blocked, source.made) == (True, written + 2)
        nursery.cancel_scope.cancel()
    assert not source.running


async def test_half_an_event_is_finished_before_the_reader_is_told_of_a_stop() -> None:
    """The stop comes in the moment in which a part of an event is out."""
    live, error = Live(), PenstockError(CANCELLED, "enough")

    class Cut(RoomySink):
        def write_nowait(self, data: bytes, event: Delta | Ended) -> bool:
            if whole := super().write_nowait(data, event):
                return whole
            live.stop(error)
            return False

    sink = Cut(room=3, permits=99)
    await run(Counting(9), sink, live)
    assert len(sink.written) > 4
    assert sink.begun is None
    assert sink.written[-1] == live.terminal == Failed(error)


async def test_writes_that_need_not_wait_put_off_the_heartbeat(autojump_clock: MockClock) -> None:
    sink = RoomySink(room=99, permits=99)
    await run(Counting(8, delay_s=PACE.heartbeat_s - 1), sink)
    assert None not in sink.written
    assert len(sink.written) == 9


async def test_silence_after_such_writes_is_broken_by_heartbeats(autojump_clock: MockClock) -> None:
    sink = RoomySink(room=99, permits=99)
    await run(Counting(3, delay_s=2 * PACE.heartbeat_s + 1), sink)
    assert [each is None for each in sink.written] == [True, True, False] * 3 + [False]


async def test_sources_that_never_wait_take_turns() -> None:
    """And one that is cancelled meanwhile ends within its turn."""
    sinks = [RoomySink(room=math.inf) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for sink in sinks:
            nursery.start_soon(run, Ready(10**9), sink)
        while min(len(sink.written) for sink in sinks) < 500:
            written = [len(sink.written) for sink in sinks]
            assert max(written) - min(written) <= 2 * pipeline.EVENTS_A_TURN
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
        written = [len(sink.written) for sink in sinks]
    for before, sink in zip(written, sinks, strict=True):
        assert len(sink.written) - before <= pipeline.EVENTS_A_TURN


async def test_cancelled_at_any_point_with_room_on_the_wire_nothing_is_torn() -> None:
    state: list[tuple[Counting, RoomySink, Live]] = []

    async def scenario() -> None:
        state.append((Counting(6), RoomySink(room=2, permits=99), Live()))
        await run(*state[-1])

    async def check(cut: bool) -> None:
        source, sink, live = state[-1]
        assert not source.running
        covered = [event.through for event in sink.written if isinstance(event, Delta)]
        assert covered == list(range(1, len(covered) + 1))
        if not cut:
            assert sink.written[-1] is live.terminal

    assert await cancel_everywhere(scenario, check) > 5


async def test_a_write_that_returns_after_all_was_cancelled_is_no_failure() -> None:
    """The source has ended by then, and the writer looks for the next event."""
    with trio.CancelScope() as scope:

        class LateSink(GatedSink):
            async def write(self, data: bytes, event: Event | None) -> None:
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await wait_all_tasks_blocked()

        await run(Counting(9), LateSink())
    assert scope.cancelled_caught


class HoldingEncoder(PlainEncoder):
    """Says nothing before the end, as with the arguments of a long call."""

    def encode(self, event: Event) -> bytes:
        return super().encode(event) if isinstance(event, Finished | Failed) else b""


async def test_silence_while_text_is_held_back_is_broken_by_heartbeats(
    autojump_clock: MockClock,
) -> None:
    sink = RoomySink(room=99, permits=99)
    source = Counting(50, delay_s=1)
    await pipeline.run(Live(), source, HoldingEncoder(), sink, pace=PACE)
    assert sum(event is None for event in sink.written) == 3
