"""The schedule: decisions without a model, a clock or a task."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.schedule import Chunk, Entry, Schedule, State, Step


def admitted(schedule: Schedule, count: int) -> list[Entry]:
    entries = [Entry() for _ in range(count)]
    for entry in entries:
        schedule.arrive(entry)
    assert list(schedule.admit()) == entries
    return entries


def decoding(schedule: Schedule, count: int) -> list[Entry]:
    """Entries whose first token was made and taken."""
    entries = admitted(schedule, count)
    for entry in entries:
        schedule.made(entry, last=False)
        entry.held = 0
    return entries


def test_slots_go_to_the_first_that_came() -> None:
    schedule = Schedule(2)
    entries = [Entry() for _ in range(4)]
    for entry in entries:
        schedule.arrive(entry)
    assert list(schedule.admit()) == entries[:2]
    schedule.leave(entries[0])
    assert list(schedule.admit()) == [entries[2]]
    assert repr(schedule) == "<Schedule waiting=1 prefill=2 decode=0 parked=0 free=0>"


def test_all_that_want_are_stepped_together_and_the_parked_are_left_out() -> None:
    schedule = Schedule(4)
    entries = decoding(schedule, 4)
    entries[1].held = 1
    assert schedule.begin() == Step((entries[0], entries[2], entries[3]))
    assert schedule.parked == 1


def test_one_that_waits_for_a_token_wants_even_without_lookahead() -> None:
    schedule = Schedule(1, lookahead=0)
    (entry,) = decoding(schedule, 1)
    assert schedule.begin() is None
    entry.reading = True
    assert schedule.begin() == Step((entry,))


def test_chunks_and_steps_take_turns_and_prompts_rotate() -> None:
    schedule = Schedule(4)
    (running,) = decoding(schedule, 1)
    first, second = admitted(schedule, 2)
    turns = []
    for _ in range(6):
        turns.append(schedule.begin())
        schedule.finish()
    step = Step((running,))
    assert turns == [Chunk(first), step, Chunk(second), step, Chunk(first), step]


def test_prompts_run_without_a_pause_while_nobody_wants_a_token() -> None:
    schedule = Schedule(2)
    (running,) = decoding(schedule, 1)
    running.held = 1
    (prompt,) = admitted(schedule, 1)
    for _ in range(3):
        assert schedule.begin() == Chunk(prompt)
        schedule.finish()


def test_a_slot_that_is_being_written_is_free_when_the_turn_is_finished() -> None:
    schedule = Schedule(2)
    entries = decoding(schedule, 2)
    schedule.begin()
    schedule.leave(entries[0])
    assert (schedule.free, schedule.take_released()) == (0, [])
    schedule.finish()
    assert (schedule.free, schedule.take_released()) == (1, [entries[0]])


def test_a_slot_outside_the_turn_is_free_at_once() -> None:
    schedule = Schedule(2)
    entries = decoding(schedule, 2)
    entries[1].held = 1
    schedule.begin()
    schedule.leave(entries[1])
    assert schedule.free == 1


def test_leaving_twice_is_leaving_once() -> None:
    schedule = Schedule(1)
    (entry,) = admitted(schedule, 1)
    schedule.leave(entry)
    schedule.leave(entry)
    assert schedule.free == 1
    assert schedule.take_released() == [entry]


class Machine(RuleBasedStateMachine):
    """Any order of arrivals, turns, tokens, reads and departures keeps the books."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(3, lookahead=1)
        self.present: list[Entry] = []
        self.owners: set[Entry] = set()
        self.turn: Chunk | Step | None = None

    @rule()
    def arrive(self) -> None:
        entry = Entry()
        self.schedule.arrive(entry)
        self.present.append(entry)

    @precondition(lambda self: self.turn is None)
    @rule()
    def begin(self) -> None:
        self.owners -= set(self.schedule.take_released())
        admitted = list(self.schedule.admit())
        assert not self.owners & set(admitted)
        self.owners |= set(admitted)
        self.turn = self.schedule.begin()
        assert self.turn is None or set(self.turn.entries) <= self.owners
        if isinstance(self.turn, Step):
            assert all(self.schedule.wants(entry) for entry in self.turn.entries)

    @precondition(lambda self: self.turn is not None)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        assert self.turn is not None
        self.schedule.finish()
        for entry in self.turn.entries:
            made = isinstance(self.turn, Step) or data.draw(st.booleans())
            if made and entry.state is not State.ENDED:
                self.schedule.made(entry, last=data.draw(st.integers(0, 9)) == 0)
                if entry.reading:
                    entry.reading, entry.held = False, entry.held - 1
        self.turn = None

    @precondition(lambda self: bool(self.present))
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.present))
        if entry.held:
            entry.held -= 1
        elif entry.state is not State.ENDED:
            entry.reading = True

    @precondition(lambda self: bool(self.present))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.present))
        self.present.remove(entry)
        self.schedule.leave(entry)

    @invariant()
    def no_slot_is_lost_or_used_twice(self) -> None:
        assert 0 <= self.schedule.free <= 3
        assert len(self.owners) <= 3
        states = [entry.state for entry in self.present]
        assert self.schedule.waiting == states.count(State.WAITING)
        running = states.count(State.PREFILL) + states.count(State.DECODE)
        assert running <= self.schedule.active

    @invariant()
    def nobody_is_computed_further_ahead_than_the_lookahead(self) -> None:
        assert all(entry.held <= 1 for entry in self.present)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
