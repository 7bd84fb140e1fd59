"""Worlds keep their promises, a seed is a story, and planted bugs are found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import trio

from penstock.events import Event
from penstock.jobs import window
from penstock.jobs.memory_log import MemoryLog
from penstock.jobs.position import Position
from penstock.metrics import Metrics
from penstock.schedule import Schedule
from penstock.turns import Entry, State

from .simulate import run

ROOT = Path(__file__).parents[2]
SEEDS = 60
"""Here; CI lives through more, with `just simulate`."""
ENOUGH = 200
"""A planted bug is found within so many."""


@pytest.mark.heavy
def test_worlds_keep_their_promises() -> None:
    for seed in range(SEEDS):
        story = run(seed)
        assert story.error is None, str(story)


@pytest.mark.slow
@pytest.mark.heavy
def test_a_seed_tells_the_same_story_again() -> None:
    stories = [run(seed) for seed in range(20)]
    assert [run(seed) for seed in range(20)] == stories
    assert len({story.lines for story in stories}) == 20


@pytest.mark.heavy
def test_a_seed_tells_the_same_story_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "6"]
    told = {
        subprocess.check_output(command, env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT)
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert str(run(6)) in told.pop().decode()


def lose_an_event_at_resume(patch: pytest.MonkeyPatch) -> None:
    original = MemoryLog.read

    async def read(self: MemoryLog, after: int, limit: int) -> Sequence[Event]:
        events = await original(self, after, limit)
        return list(islice(events, 1, None)) if after and len(events) > 1 else events

    patch.setattr(MemoryLog, "read", read)


def keep_the_slot_of_one_that_leaves_in_prefill(patch: pytest.MonkeyPatch) -> None:
    original = Schedule.leave

    def leave(self: Schedule, entry: Entry) -> None:
        if not (entry.state is State.PREFILL and entry.in_turn):
            original(self, entry)

    patch.setattr(Schedule, "leave", leave)


def forget_to_wake_the_writer_when_a_reader_leaves(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def attach(self: MemoryLog) -> Iterator[Position]:
        reader = Position(self._room.unpark_all)
        self.readers[reader] = None
        self._wishes.unpark_all()
        try:
            yield reader
        finally:
            del self.readers[reader]
            self._idle_since_s = trio.current_time()
            self._wishes.unpark_all()

    patch.setattr(MemoryLog, "attach", attach)


def let_a_window_pass_one_more(patch: pytest.MonkeyPatch) -> None:
    def has_room(made: int, **state: object) -> bool:
        return window.has_room(made - 1, **state)  # type: ignore[arg-type]  # handed on as they are

    patch.setattr("penstock.jobs.memory_log.has_room", has_room)


def count_a_cancelled_one_twice(patch: pytest.MonkeyPatch) -> None:
    original = Metrics._count_cancelled

    def count(self: Metrics, reason: str) -> str:
        original(self, reason)
        return original(self, reason)

    patch.setattr(Metrics, "_count_cancelled", count)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (lose_an_event_at_resume, "whole answer"),
        (keep_the_slot_of_one_that_leaves_in_prefill, "Entry"),
        (forget_to_wake_the_writer_when_a_reader_leaves, "by nobody|unread|deadline"),
        (let_a_window_pass_one_more, "events with"),
        (count_a_cancelled_one_twice, "counted as running"),
    ],
)
def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], told: str
) -> None:
    plant(monkeypatch)
    errors = (run(seed).error for seed in range(ENOUGH))
    assert re.search(told, next(filter(None, errors), "no world noticed"))
