"""The schedule: decisions without a model, a clock or a task."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.schedule import Schedule
from penstock.turns import Chunk, Entry, Moves, State, Step, Turn


def admitted(schedule: Schedule, count: int, now_s: float = 0) -> list[Entry]:
    """Entries that were given a slot and have their prompt to compute."""
    entries = [Entry() for _ in range(count)]
    for entry in entries:
        schedule.arrive(entry)
    assert schedule.begin(now_s) == Moves((), tuple(entries))
    schedule.finish()
    return entries


def decoding(schedule: Schedule, count: int, now_s: float = 0) -> list[Entry]:
    """Entries whose first token was made and taken."""
    entries = admitted(schedule, count, now_s)
    for entry in entries:
        schedule.prefilled(entry)
        entry.reading = True
        schedule.made(entry, now_s, last=False)
    return entries


def park(schedule: Schedule, entry: Entry, now_s: float) -> None:
    """Make tokens that nobody takes."""
    while schedule.wants(entry):
        schedule.made(entry, now_s, last=False)


def test_slots_go_to_the_first_that_came() -> None:
    schedule = Schedule(2)
    entries = [Entry() for _ in range(4)]
    for entry in entries:
        schedule.arrive(entry)
    assert schedule.begin(0) == Moves((), (entries[0], entries[1]))
    schedule.finish()
    schedule.leave(entries[0])
    assert schedule.begin(0) == Moves((), (entries[2],))
    assert repr(schedule) == ("<Schedule waiting=1 prefill=2 decode=0 parked=0 evicted=0 free=0>")


def test_all_that_want_are_stepped_together_and_the_parked_are_left_out() -> None:
    schedule = Schedule(4)
    entries = decoding(schedule, 4)
    park(schedule, entries[1], 0)
    assert schedule.begin(0) == Step((entries[0], entries[2], entries[3]))
    assert schedule.parked == 1


def test_one_that_waits_for_a_token_wants_even_without_lookahead() -> None:
    schedule = Schedule(1, lookahead=0)
    (entry,) = decoding(schedule, 1)
    assert schedule.begin(0) is None
    schedule.read(entry)
    assert schedule.begin(0) == Step((entry,))


def test_chunks_and_steps_take_turns_and_prompts_rotate() -> None:
    schedule = Schedule(4)
    (running,) = decoding(schedule, 1)
    first, second = admitted(schedule, 2)
    turns = []
    for _ in range(6):
        turns.append(schedule.begin(0))
        schedule.finish()
    step = Step((running,))
    assert turns == [Chunk(first), step, Chunk(second), step, Chunk(first), step]


def test_prompts_run_without_a_pause_while_nobody_wants_a_token() -> None:
    schedule = Schedule(2)
    (running,) = decoding(schedule, 1)
    park(schedule, running, 0)
    (prompt,) = admitted(schedule, 1)
    for _ in range(3):
        assert schedule.begin(0) == Chunk(prompt)
        schedule.finish()


def test_a_slot_that_is_being_written_is_free_when_the_turn_is_finished() -> None:
    schedule = Schedule(2)
    entries = decoding(schedule, 2)
    schedule.begin(0)
    schedule.leave(entries[0])
    assert (schedule.free, schedule.take_released()) == (0, [])
    schedule.finish()
    assert (schedule.free, schedule.take_released()) == (1, [entries[0]])


def test_a_slot_outside_the_turn_is_free_at_once() -> None:
    schedule = Schedule(2)
    entries = decoding(schedule, 2)
    park(schedule, entries[1], 0)
    schedule.begin(0)
    schedule.leave(entries[1])
    assert schedule.free == 1


def test_leaving_twice_is_leaving_once() -> None:
    schedule = Schedule(1)
    (entry,) = admitted(schedule, 1)
    schedule.leave(entry)
    schedule.leave(entry)
    assert schedule.free == 1
    assert schedule.take_released() == [entry]


def test_a_parked_one_gives_its_slot_up_after_the_grace_when_others_wait() -> None:
    schedule = Schedule(1, park_grace_s=5, quantum_s=1)
    (parked,) = decoding(schedule, 1, now_s=10)
    park(schedule, parked, 12)
    assert schedule.wake_at_s() == inf
    waiting = Entry()
    schedule.arrive(waiting)
    assert schedule.begin(16.9) is None
    assert schedule.wake_at_s() == 17
    assert schedule.begin(17) == Moves((parked,), (waiting,))
    assert (schedule.evicted, schedule.parked, schedule.free) == (1, 0, 0)


def test_a_parked_one_keeps_its_slot_while_nobody_waits() -> None:
    schedule = Schedule(1, park_grace_s=1)
    (parked,) = decoding(schedule, 1)
    park(schedule, parked, 0)
    assert schedule.begin(1e9) is None
    assert schedule.parked == 1


def test_the_longest_parked_goes_first_and_no_more_than_are_needed() -> None:
    schedule = Schedule(3, park_grace_s=1)
    entries = decoding(schedule, 3)
    for entry, since_s in zip(entries, (3, 1, 2), strict=True):
        park(schedule, entry, since_s)
    waiting = Entry()
    schedule.arrive(waiting)
    assert schedule.begin(10) == Moves((entries[1],), (waiting,))


def test_an_evicted_one_that_wants_on_waits_behind_those_that_came_before() -> None:
    schedule = Schedule(1, park_grace_s=1, quantum_s=0)
    (evicted,) = decoding(schedule, 1)
    park(schedule, evicted, 0)
    second, third = Entry(), Entry()
    schedule.arrive(second)
    assert schedule.begin(1) == Moves((evicted,), (second,))
    schedule.finish()
    schedule.arrive(third)
    schedule.take(evicted)
    assert (evicted.state, schedule.waiting) == (State.WAITING, 2)
    schedule.leave(second)
    assert schedule.begin(2) == Moves((), (third,))
    schedule.finish()
    schedule.leave(third)
    assert schedule.begin(3) == Moves((), (evicted,))


def test_a_resumed_one_keeps_its_slot_for_a_quantum() -> None:
    schedule = Schedule(1, park_grace_s=0, quantum_s=4)
    (entry,) = decoding(schedule, 1, now_s=10)
    park(schedule, entry, 10)
    schedule.arrive(Entry())
    assert schedule.begin(13.9) is None
    assert schedule.wake_at_s() == 14
    assert isinstance(schedule.begin(14), Moves)


def test_one_that_leaves_while_it_is_being_copied_out_frees_nothing_twice() -> None:
    schedule = Schedule(1, park_grace_s=0, quantum_s=0)
    (parked,) = decoding(schedule, 1)
    park(schedule, parked, 0)
    waiting = Entry()
    schedule.arrive(waiting)
    assert schedule.begin(1) == Moves((parked,), (waiting,))
    schedule.leave(parked)
    assert schedule.free == 0
    schedule.finish()
    assert (schedule.free, schedule.take_released()) == (0, [parked])


class Machine(RuleBasedStateMachine):
    """Any order of arrivals, turns, tokens, reads, evictions and departures keeps the books."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(3, lookahead=1, park_grace_s=2, quantum_s=3)
        self.present: list[Entry] = []
        self.seated: set[Entry] = set()
        self.turn: Turn | None = None
        self.now_s = 0.0

    @rule()
    def arrive(self) -> None:
        entry = Entry()
        self.schedule.arrive(entry)
        self.present.append(entry)

    @rule(seconds=st.floats(0, 4))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.turn is None)
    @rule()
    def begin(self) -> None:
        self.seated -= set(self.schedule.take_released())
        waiting = self.schedule.waiting
        self.turn = self.schedule.begin(self.now_s)
        match self.turn:
            case Moves(evicted, admitted):
                assert set(evicted) <= self.seated
                assert all(self.now_s >= entry.parked_s + 2 for entry in evicted)
                assert all(self.now_s >= entry.seated_s + 3 for entry in evicted)
                assert len(evicted) <= waiting
                self.seated -= set(evicted)
                assert not self.seated & set(admitted)
                self.seated |= set(admitted)
            case Chunk() | Step():
                assert set(self.turn.entries) <= self.seated
                assert all(
                    entry.state in (State.PREFILL, State.DECODE) for entry in self.turn.entries
                )
        if isinstance(self.turn, Step):
            assert all(self.schedule.wants(entry) for entry in self.turn.entries)

    @precondition(lambda self: self.turn is not None)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        assert self.turn is not None
        self.schedule.finish()
        for entry in self.turn.entries:
            if isinstance(self.turn, Moves) or entry.state is State.ENDED:
                continue
            if isinstance(self.turn, Chunk):
                if data.draw(st.booleans()):
                    continue
                self.schedule.prefilled(entry)
            if data.draw(st.integers(0, 9)):
                self.schedule.made(entry, self.now_s, last=data.draw(st.integers(0, 9)) == 0)
        self.turn = None

    @precondition(lambda self: bool(self.present))
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.present))
        if entry.held:
            self.schedule.take(entry)
        elif entry.state is not State.ENDED:
            self.schedule.read(entry)

    @precondition(lambda self: bool(self.present))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.present))
        self.present.remove(entry)
        self.schedule.leave(entry)

    @invariant()
    def no_slot_is_lost_or_used_twice(self) -> None:
        assert 0 <= self.schedule.free <= 3
        assert len(self.seated) <= 3
        states = [entry.state for entry in self.present]
        assert self.schedule.waiting == states.count(State.WAITING)
        assert self.schedule.evicted == states.count(State.EVICTED)
        running = states.count(State.PREFILL) + states.count(State.DECODE)
        assert running <= self.schedule.active

    @invariant()
    def nobody_is_computed_further_ahead_than_the_lookahead(self) -> None:
        assert all(entry.held <= 1 for entry in self.present)

    @invariant()
    def nobody_that_wants_is_evicted(self) -> None:
        assert not any(
            self.schedule.wants(entry) for entry in self.present if entry.state is State.EVICTED
        )

    def teardown(self) -> None:
        """Once all have left and the turn is finished, every slot is free."""
        for entry in self.present:
            self.schedule.leave(entry)
        if self.turn is not None:
            self.schedule.finish()
        assert (self.schedule.free, self.schedule.waiting, self.schedule.evicted) == (3, 0, 0)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=300, stateful_step_count=60)
