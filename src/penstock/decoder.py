"""The one task that drives the engine: step all who want a token, hand each its token.

It carries out what `schedule` decides and never waits for a reader: handing over is a sync call.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import outcome
import trio

from penstock.engine.engine import Engine, EngineSequence, Sampled
from penstock.engine_thread import EngineThread
from penstock.errors import PenstockError, internal
from penstock.requests import Prompt
from penstock.schedule import Chunk, Entry, Schedule, State, Turn

log = logging.getLogger(__name__)


class TokenSequence:
    """The tokens of one prompt, for one reader. Made by `Decoder.open`.

    `computed` counts the tokens that the model has made, taken or not.
    """

    def __init__(self, decoder: Decoder, prompt: Prompt) -> None:
        self.prompt = prompt
        self.computed = 0
        self.entry = Entry()
        self._decoder = decoder
        self._tokens: deque[Sampled] = deque()
        self._reader: trio.lowlevel.Task | None = None
        self._error: PenstockError | None = None

    async def next_token(self) -> Sampled:
        """The next token, as soon as the model has made it.

        Error handling: raises the `PenstockError` that ended this sequence, after the tokens made
        before it. Cancelling it loses nothing but the wait; leaving `Decoder.open` is what frees
        the slot.
        """
        if self._tokens:
            await trio.lowlevel.checkpoint_if_cancelled()
            self.entry.held -= 1
            self._decoder.wake()
            return self._tokens.popleft()
        if self._error is not None:
            raise self._error
        self._reader = trio.lowlevel.current_task()
        self.entry.reading = True
        self._decoder.wake()
        sampled: Sampled = await trio.lowlevel.wait_task_rescheduled(self._stop_reading)
        return sampled

    def put_nowait(self, sampled: Sampled) -> None:
        """Hand over one token: to the waiting reader, or into the hand of nobody yet."""
        self.computed += 1
        if self._reader is None:
            self._tokens.append(sampled)
        else:
            self.entry.held -= 1
            self._wake_reader(outcome.Value(sampled))

    def fail_nowait(self, error: PenstockError) -> None:
        """No token will follow those already made."""
        self._error = error
        if self._reader is not None:
            self._wake_reader(outcome.Error(error))

    def _wake_reader(self, result: outcome.Outcome[Sampled]) -> None:
        assert self._reader is not None
        reader, self._reader = self._reader, None
        self.entry.reading = False
        trio.lowlevel.reschedule(reader, result)

    def _stop_reading(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        self.entry.reading = False
        return trio.lowlevel.Abort.SUCCEEDED


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
        self.resting = False
        """True while nobody wants a token."""
        self._wakeup = trio.Event()

    def __repr__(self) -> str:
        return f"<Decoder {self.schedule!r} steps={self.steps}>"

    async def run(self) -> None:
        """Decode until cancelled.

        Resource handling: the engine's thread lives as long as this call, and a turn that is
        running when it is cancelled is waited for.
        Error handling: what a turn raises ends the sequences of that turn, and nothing else.
        """
        with self.thread:
            while True:
                self._settle()
                if (turn := self.schedule.begin()) is None:
                    await self._wait_wanted()
                    continue
                result = await self.thread.run(partial(outcome.capture, self._perform, turn))
                self.schedule.finish()
                self._hand_over(turn, result)

    @contextmanager
    def open(self, prompt: Prompt) -> Iterator[TokenSequence]:
        """Queue `prompt` for a slot; leaving the block frees it.

        The slot is free at once, or where a step is running over it, as soon as that has returned.
        """
        reader = TokenSequence(self, prompt)
        self._readers[reader.entry] = reader
        self.schedule.arrive(reader.entry)
        self.wake()
        try:
            yield reader
        finally:
            del self._readers[reader.entry]
            self.schedule.leave(reader.entry)
            self.wake()

    def wake(self) -> None:
        """Something has changed that the next turn may depend on."""
        self._wakeup.set()

    async def _wait_wanted(self) -> None:
        self.resting = True
        await self._wakeup.wait()
        self.resting = False
        self._wakeup = trio.Event()

    def _settle(self) -> None:
        """Between two turns, bring the engine's slots in line with the schedule."""
        for entry in self.schedule.take_released():
            self.engine.close(self._opened.pop(entry))
        for entry in self.schedule.admit():
            self._opened[entry] = self.engine.open(self._readers[entry].prompt)

    def _perform(self, turn: Turn) -> list[Sampled | None]:
        """One turn on the engine's thread: what was sampled for each of its entries."""
        if isinstance(turn, Chunk):
            return [self.engine.prefill(self._opened[turn.entry])]
        self.steps += 1
        self.rows += len(turn.entries)
        return [*self.engine.step([self._opened[entry] for entry in turn.entries])]

    def _hand_over(self, turn: Turn, result: outcome.Outcome[list[Sampled | None]]) -> None:
        try:
            sampled = result.unwrap()
        except Exception:
            log.exception("the model failed in %r", type(turn).__name__)
            self._fail(turn.entries)
            return
        for entry, token in zip(turn.entries, sampled, strict=True):
            if token is not None and entry.state is not State.ENDED:
                self.schedule.made(entry, last=token.end is not None)
                self._readers[entry].put_nowait(token)

    def _fail(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.state is not State.ENDED:
                self.schedule.leave(entry)
                self._readers[entry].fail_nowait(internal())
