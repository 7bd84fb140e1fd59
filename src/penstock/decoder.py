"""The one task that drives the engine: step all who want a token, hand each its token.

It carries out what `schedule` decides and never waits for a reader: handing over is a sync call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import outcome
import trio

from penstock.engine.engine import Engine, EngineSequence, Result, Sampled
from penstock.engine.interrupt import Interrupt
from penstock.engine_thread import EngineThread
from penstock.errors import internal
from penstock.reader import TokenSequence
from penstock.requests import Prompt
from penstock.schedule import Schedule
from penstock.turns import Chunk, Entry, Moves, State, Turn

log = logging.getLogger(__name__)

Results: TypeAlias = list[Result]


class Decoder:
    """Owns the engine, its thread and the schedule while `run` runs."""

    def __init__(self, engine: Engine, schedule: Schedule) -> None:
        self.engine = engine
        self.schedule = schedule
        self.thread = EngineThread()
        self.steps = 0
        self.rows = 0
        """Rows of all steps together: `rows / steps` is the mean batch."""
        self._readers: dict[Entry, TokenSequence] = {}
        self._opened: dict[Entry, EngineSequence] = {}
        self._interrupt = Interrupt()
        self.resting = False
        """True while nobody wants a token."""
        self._wakeup = trio.Event()

    def __repr__(self) -> str:
        return f"<Decoder {self.schedule!r} steps={self.steps}>"

    async def run(self) -> None:
        """Decode until cancelled.

        Resource handling: the engine's thread lives as long as this call, and a turn that is
        running when it is cancelled is waited for.
        Error handling: what fails in a turn ends the sequences that it concerns, and nothing else.
        """
        with self.thread:
            while True:
                # Waiting for the thread cannot be cancelled, so this is where a busy one ends.
                await trio.lowlevel.checkpoint_if_cancelled()
                self._forget_released()
                if (turn := self.schedule.begin(trio.current_time())) is None:
                    await self._wait_wanted()
                    continue
                self._interrupt = Interrupt()
                result = await self.thread.run(partial(outcome.capture, self._perform, turn))
                self.schedule.finish()
                self._hand_over(turn, result)

    @contextmanager
    def open(self, prompt: Prompt) -> Iterator[TokenSequence]:
        """Queue `prompt` for a slot; leaving the block frees it.

        The slot is free at once, or where a turn is running over it, as soon as that has returned;
        a running prompt chunk is cut short for that.
        """
        reader = TokenSequence(prompt, self.schedule, self.wake)
        self._readers[reader.entry] = reader
        self._opened[reader.entry] = self.engine.open(prompt)
        self.schedule.arrive(reader.entry)
        self.wake()
        try:
            yield reader
        finally:
            del self._readers[reader.entry]
            if reader.entry.state is State.PREFILL and reader.entry.in_turn:
                self._interrupt.now()
            self.schedule.leave(reader.entry)
            self.wake()

    def wake(self) -> None:
        """Something has changed that the next turn may depend on."""
        self._wakeup.set()

    async def _wait_wanted(self) -> None:
        self.resting = True
        with trio.move_on_at(self.schedule.wake_at_s()):
            await self._wakeup.wait()
        self.resting = False
        self._wakeup = trio.Event()

    def _forget_released(self) -> None:
        for entry in self.schedule.take_released():
            self.engine.close(self._opened.pop(entry))

    def _perform(self, turn: Turn) -> Results:
        """One turn on the engine's thread: what came of it for each of its entries."""
        match turn:
            case Moves(evicted, admitted):
                return [self._evict(entry) for entry in evicted] + [
                    self._admit(entry) for entry in admitted
                ]
            case Chunk(entry):
                return [self.engine.prefill(self._opened[entry], self._interrupt)]
            case _:
                self.steps += 1
                self.rows += len(turn.entries)
                return self.engine.step([self._opened[entry] for entry in turn.entries])

    def _evict(self, entry: Entry) -> Result:
        return _attempt(self.engine.evict, self._opened[entry])

    def _admit(self, entry: Entry) -> Result:
        return _attempt(self.engine.admit, self._opened[entry])

    def _hand_over(self, turn: Turn, result: outcome.Outcome[Results]) -> None:
        try:
            results = result.unwrap()
        except Exception as error:
            results = [error for _ in turn.entries]
        for entry, got in zip(turn.entries, results, strict=True):
            if entry.state is State.ENDED:
                continue
            if isinstance(got, Exception):
                self._fail(entry, got)
            else:
                self._advance(entry, got)

    def _advance(self, entry: Entry, sampled: Sampled | None) -> None:
        if entry.state is State.PREFILL and self._opened[entry].prefilled:
            self.schedule.prefilled(entry)
        if sampled is not None:
            self.schedule.made(entry, trio.current_time(), last=sampled.end is not None)
            self._readers[entry].put_nowait(sampled)

    def _fail(self, entry: Entry, error: Exception) -> None:
        log.error("the model failed on a sequence", exc_info=error)
        self.schedule.leave(entry)
        self._readers[entry].fail_nowait(internal())


def _attempt(move: Callable[[EngineSequence], None], sequence: EngineSequence) -> Result:
    """Nothing, or what went wrong with this sequence alone."""
    try:
        move(sequence)
    except Exception as error:
        return error
    return None
