"""Any schedule of arrivals, stalls, evictions, failures and departures: every text is its own.

The real engine under the real schedule, with time and readers in the hands of hypothesis. Whatever
happens, each sequence's tokens are those of its lone run, and no slot is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.engine.engine import Engine
from penstock.engine.interrupt import Interrupt
from penstock.engine.model import Model, load_model
from penstock.engine.sequence import EngineSequence, Result, Sampled
from penstock.models import embedded_model
from penstock.requests import Prompt
from penstock.schedule import Schedule
from penstock.turns import Chunk, Entry, Moves, State, Turn
from tests.peers import CHUNK, MAX_LEN, alone, make_engine, make_prompt, sampled

SLOTS = 3
BUDGETS = {"none": 0, "two sequences": 800_000, "plenty": 1 << 30}


@dataclass(eq=False)
class Reader:
    """One sequence and what its reader has seen of it."""

    prompt: Prompt
    sequence: EngineSequence
    entry: Entry = field(default_factory=Entry)
    taken: list[Sampled] = field(default_factory=list)
    held: list[Sampled] = field(default_factory=list)
    failed: bool = False
    doomed: bool = False
    group: list[Reader] = field(default_factory=list)


class FlakyEngine(Engine):
    """Fails the steps of sequences whose key is in `doomed`."""

    doomed: set[int]

    def _run(self, sequences: Sequence[EngineSequence]):  # type: ignore[no-untyped-def]  # noqa: ANN202
        if self.doomed & {sequence.key for sequence in sequences}:
            raise RuntimeError("doomed")
        return super()._run(sequences)


class Pool:
    """Prompts with their references, computed once."""

    def __init__(self, model: Model) -> None:
        shared = make_prompt(2 * CHUNK).token_ids
        whole_chunks = make_prompt(2 * CHUNK, seed=77, max_tokens=5)
        prompts = [
            make_prompt(1 + 7 * i, seed=i, max_tokens=3 + i, temperature=[0.0, 1.0][i % 2])
            for i in range(7)
        ]
        prompts += [
            Prompt((*shared, 9 + i), 6, make_prompt(temperature=1.3).sampling, i, True)
            for i in range(3)
        ] + [whole_chunks]
        several = replace(make_prompt(CHUNK + 3, temperature=1.0, max_tokens=6, seed=5), n=3)
        self.model = model
        self.prompts = [*prompts, several]
        self._expected: dict[tuple[int, int], list[Sampled]] = {}

    def expected(self, sequence: EngineSequence) -> list[Sampled]:
        """What the choice of `sequence` gives with nobody beside it."""
        key = id(sequence.prompt), sequence.choice
        if key not in self._expected:
            self._expected[key] = alone(make_engine(self.model), sequence.prompt, sequence.choice)
        return self._expected[key]


class Machine(RuleBasedStateMachine):
    pool: Pool

    @initialize(
        budget=st.sampled_from(sorted(BUDGETS)),
        lookahead=st.integers(0, 2),
        prefixes=st.sampled_from([0, 600_000, 1 << 30]),
    )
    def begin(self, budget: str, lookahead: int, prefixes: int) -> None:
        self.engine = FlakyEngine(
            self.pool.model,
            slots=SLOTS,
            max_len=MAX_LEN,
            prefill_chunk=CHUNK,
            parked_kv_bytes=BUDGETS[budget],
            prefix_cache_bytes=prefixes,
        )
        self.engine.doomed = set()
        self.schedule = Schedule(SLOTS, lookahead=lookahead, park_grace_s=1, quantum_s=1)
        self.readers: dict[Entry, Reader] = {}
        self.opened: dict[Entry, EngineSequence] = {}
        self.now_s = 0.0

    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        prompt = data.draw(st.sampled_from(self.pool.prompts))
        readers = [Reader(prompt, opened) for opened in self.engine.open_choices(prompt)]
        for reader in readers:
            reader.group = readers
            self.readers[reader.entry] = reader
            self.opened[reader.entry] = reader.sequence
        self.schedule.arrive(*(reader.entry for reader in readers))

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), tokens=st.integers(1, 6))
    def read(self, data: st.DataObject, tokens: int) -> None:
        """A reader takes some tokens, as far as they come, and stops again."""
        reader = self.draw(data)
        for _ in range(tokens):
            self.read_one(reader)
            self.turns(3)

    @rule(turns=st.integers(1, 10))
    def turns(self, turns: int) -> None:
        for _ in range(turns):
            self.turn(interrupted=False)

    @rule(seconds=st.floats(0.1, 3))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.gone(self.draw(data))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def leave_in_the_middle_of_a_turn(self, data: st.DataObject) -> None:
        self.turn(interrupted=True, leaver=self.draw(data))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """The model will fail this sequence, and no other, at its next step."""
        reader = self.draw(data)
        reader.doomed = True
        self.engine.doomed.add(reader.sequence.key)

    @invariant()
    def what_was_read_is_what_the_lone_run_gave(self) -> None:
        for reader in getattr(self, "readers", {}).values():
            made = reader.taken + reader.held
            assert made == self.pool.expected(reader.sequence)[: len(made)]
            assert reader.doomed or not reader.failed

    def teardown(self) -> None:
        """All that are left read to their end; then nothing is left of them."""
        if not hasattr(self, "readers"):
            return
        for _ in range(3000):
            for reader in self.readers.values():
                self.read_one(reader)
            self.now_s += 1
            self.turn(interrupted=False)
        for reader in list(self.readers.values()):
            assert reader.failed or reader.taken == self.pool.expected(reader.sequence)
        for reader in list(self.readers.values()):
            self.gone(reader)
        self.settle()
        assert self.schedule.free == SLOTS
        assert repr(self.engine) == f"<Engine <Slots 0 of {SLOTS} in use>>"
        assert (self.opened, self.engine.parked.bytes) == ({}, 0)

    def draw(self, data: st.DataObject) -> Reader:
        return data.draw(st.sampled_from(list(self.readers.values())))

    def read_one(self, reader: Reader) -> None:
        if reader.held:
            reader.taken.append(reader.held.pop(0))
            self.schedule.take(reader.entry)
        elif reader.entry.state is not State.ENDED:
            self.schedule.read(reader.entry)

    def gone(self, reader: Reader) -> None:
        """The choices of one request leave together."""
        for one in reader.group:
            if self.readers.pop(one.entry, None):
                self.schedule.leave(one.entry)

    def settle(self) -> None:
        for entry in self.schedule.take_released():
            self.engine.close(self.opened.pop(entry))

    def turn(self, *, interrupted: bool, leaver: Reader | None = None) -> None:
        self.settle()
        turn = self.schedule.begin(self.now_s)
        if turn is None:
            return
        interrupt = Interrupt()
        if interrupted:
            interrupt.now()
        results = self.perform(turn, interrupt)
        if leaver is not None:
            self.gone(leaver)
        self.schedule.finish()
        for entry, result in zip(turn.entries, results, strict=True):
            if entry.state is not State.ENDED:
                self.hand_over(entry, result)

    def perform(self, turn: Turn, interrupt: Interrupt) -> list[Result]:
        match turn:
            case Moves(evicted, admitted):
                for entry in evicted:
                    self.engine.evict(self.opened[entry])
                return [None for _ in evicted] + [
                    self.engine.admit(self.opened[entry]) for entry in admitted
                ]
            case Chunk(entry):
                return [self.engine.prefill(self.opened[entry], interrupt)]
        assert all(self.schedule.wants(entry) for entry in turn.entries)
        return self.engine.step([self.opened[entry] for entry in turn.entries])

    def hand_over(self, entry: Entry, result: Result) -> None:
        reader = self.readers[entry]
        if isinstance(result, Exception):
            # One answer that fails ends its request, and with it the other answers.
            for one in reader.group:
                one.failed = one.doomed = True
                self.schedule.leave(one.entry)
            return
        if entry.state is State.PREFILL and self.opened[entry].prefilled:
            self.schedule.prefilled(entry)
        if result is not None:
            (reader.taken if entry.reading else reader.held).append(sampled(result))
            self.schedule.made(entry, self.now_s, last=sampled(result).end is not None)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(load_model(embedded_model(), threads=1))


@pytest.mark.heavy
def test_five_hundred_schedules_change_no_token_and_lose_no_slot(pool: Pool) -> None:
    Machine.pool = pool
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=500, stateful_step_count=30),
    )
