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

from penstock.engine.engine import Engine
from penstock.engine.interrupt import Interrupt
from penstock.engine.sequence import EngineSequence, Result, Sampled
from penstock.engine_thread import EngineThread
from penstock.errors import PenstockError, internal
from penstock.reader import TokenSequence
from penstock.requests import Caller, Prompt, Sampling
from penstock.schedule import Schedule
from penstock.turns import Chunk, Entry, Moves, State, Turn

log = logging.getLogger(__name__)

Results: TypeAlias = list[Result]

PROBE = Prompt((0,), 1, Sampling(temperature=0), 0, ignore_eos=True, caller=Caller("/ready"))
"""The smallest piece of work that runs the model."""


class Decoder:
    """Owns the engine and the schedule while `run` runs, and `thread` during its turns."""

    def __init__(self, engine: Engine, schedule: Schedule, thread: EngineThread) -> None:
        self.engine = engine
        self.schedule = schedule
        self.thread = thread
        self.batches = [0] * (schedule.slots + 1)
        """How many steps had so many rows."""
        self._readers: dict[Entry, TokenSequence] = {}
        self._opened: dict[Entry, EngineSequence] = {}
        self._interrupt = Interrupt()
        self._left_s: dict[Entry, float] = {}
        self.observe_release: Callable[[float], None] = lambda seconds: None
        """Told how long it took from a reader's leaving to its slot being free."""
        self.resting = False
        """True while nobody wants a token."""
        self.suspect = False
        """True after a run of the model in which everything failed."""
        self._probing = trio.Lock()
        self._wakeup = trio.Event()

    def __repr__(self) -> str:
        return f"<Decoder {self.schedule!r} steps={self.steps}>"

    @property
    def steps(self) -> int:
        return sum(self.batches)

    @property
    def rows(self) -> int:
        """Those of all steps together: `rows / steps` is the mean batch."""
        return sum(size * count for size, count in enumerate(self.batches))

    async def run(self) -> None:
        """Decode until cancelled.

        Resource handling: a turn that is running when this is cancelled is waited for.
        Error handling: what fails in a turn ends the sequences that it concerns, and nothing else.
        """
        with self.thread:
            while True:
                # Waiting for the thread cannot be cancelled, so this is where a busy one ends.
                await trio.lowlevel.checkpoint_if_cancelled()
                await self.thread.acquire()
                try:
                    worked = await self._take_turn()
                finally:
                    self.thread.release()
                if not worked:
                    await self._wait_wanted()

    async def _take_turn(self) -> bool:
        """Decide now that the thread is ours, so that whoever wants a token by now gets one.

        Slots that became free in the schedule are freed in the engine first: nothing may come
        between that and the decision who gets them.
        """
        self._forget_released()
        if (turn := self.schedule.begin(trio.current_time())) is None:
            return False
        self._interrupt = Interrupt()
        result = await self.thread.run(partial(outcome.capture, self._perform, turn))
        self.schedule.finish()
        self._hand_over(turn, result)
        return True

    @contextmanager
    def open(self, prompt: Prompt) -> Iterator[list[TokenSequence]]:
        """Queue each choice of `prompt` for a slot; leaving the block frees them.

        The prompt is computed for the first one, then the others queue. A slot is free at once, or
        where a turn is running over it, as soon as that has returned; a running prompt chunk is cut
        short for that.
        """
        readers = [self._register(opened) for opened in self.engine.open_choices(prompt)]
        # Of choices that go on, the first may have all its tokens, and leaves without a prompt.
        step = 1 if prompt.given else len(readers)
        for first in range(0, len(readers), step):
            self.schedule.arrive(*(reader.entry for reader in readers[first : first + step]))
        self.wake()
        try:
            yield readers
        finally:
            for reader in readers:
                reader.close()

    def displace(self, account: str, arriving: int, places: int, error: PenstockError) -> bool:
        """End enough of a crowd that has not begun, so that `account` can wait in their `places`.

        False, and nobody is ended, where no other line is so much longer that this would be fair.
        """
        crowd = self.schedule.crowd(account, arriving, places)
        for entry in crowd:
            self.schedule.leave(entry)
            self._readers[entry].fail_nowait(error)
        return bool(crowd)

    async def works(self) -> bool:
        """Whether the model makes tokens: it just did, or it makes one when it is asked to."""
        async with self._probing:
            return not self.suspect or await self._probe()

    async def _probe(self) -> bool:
        with self.open(PROBE) as [sequence]:
            try:
                await sequence.next_token()
            except PenstockError:
                return False
        return True

    def _register(self, opened: EngineSequence) -> TokenSequence:
        reader = TokenSequence(opened.prompt, self.schedule, self.wake, self._leave)
        self._readers[reader.entry] = reader
        self._opened[reader.entry] = opened
        return reader

    def _leave(self, entry: Entry) -> None:
        if self._readers.pop(entry, None) is None:
            return
        if entry.state in (State.PREFILL, State.DECODE):
            self._left_s[entry] = trio.current_time()
        if entry.state is State.PREFILL and entry.in_turn:
            self._interrupt.now()
        self.schedule.leave(entry)
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
            if (left_s := self._left_s.pop(entry, None)) is not None:
                self.observe_release(trio.current_time() - left_s)

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
                self.batches[len(turn.entries)] += 1
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
        if not isinstance(turn, Moves):
            self._judge(results)
        for entry, got in zip(turn.entries, results, strict=True):
            if entry.state is State.ENDED:
                continue
            if isinstance(got, Exception):
                self._fail(entry, got)
            else:
                self._advance(entry, got)

    def _judge(self, results: Results) -> None:
        """A run in which everything failed is suspicious; one that was cut short tells nothing."""
        if all(map(_is_ours, results)):
            self.suspect = True
        elif not self._interrupt.wanted:
            self.suspect = False

    def _advance(self, entry: Entry, sampled: Sampled | None) -> None:
        if entry.state is State.PREFILL and self._opened[entry].prefilled:
            self.schedule.prefilled(entry)
        if sampled is not None:
            self.schedule.made(entry, trio.current_time(), last=sampled.end is not None)
            self._readers[entry].put_nowait(sampled)

    def _fail(self, entry: Entry, error: Exception) -> None:
        if not isinstance(error, PenstockError):
            log.error("the model failed on a sequence", exc_info=error)
            error = internal()
        self.schedule.leave(entry)
        self._readers[entry].fail_nowait(error)


def _is_ours(result: Result) -> bool:
    """Whether it is a failure, and not one that the client can do something about."""
    return isinstance(result, Exception) and not isinstance(result, PenstockError)


def _attempt(move: Callable[[EngineSequence], Result], sequence: EngineSequence) -> Result:
    """What came of it, or what went wrong with this sequence alone."""
    try:
        return move(sequence)
    except Exception as error:
        return error
