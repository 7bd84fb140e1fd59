"""The tokens of one sequence, on the side of its reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import outcome
import trio

from penstock.engine.sequence import Sampled
from penstock.errors import PenstockError
from penstock.requests import Prompt
from penstock.schedule import Schedule
from penstock.turns import Entry, State

STATES = {
    State.NEW: "queued",
    State.WAITING: "queued",
    State.PREFILL: "prefill",
    State.DECODE: "decode",
    State.EVICTED: "evicted",
    State.ENDED: "ended",
}


class TokenSequence:
    """The tokens of one prompt, for one reader. Made by `Decoder.open`.

    `computed` counts the tokens that the model has made, taken or not.
    """

    def __init__(
        self,
        prompt: Prompt,
        schedule: Schedule,
        wake: Callable[[], None],
        leave: Callable[[Entry], None],
    ) -> None:
        self.prompt = prompt
        self.computed = 0
        caller = prompt.caller
        self.entry = Entry(caller.account, caller.weight, len(prompt.token_ids))
        self._schedule = schedule
        self._wake = wake
        self._leave = leave
        self._tokens: deque[Sampled] = deque()
        self._task: trio.lowlevel.Task | None = None
        self._error: PenstockError | None = None

    @property
    def state(self) -> str:
        """queued, prefill, decode, parked, evicted or ended: a word for whoever watches."""
        if self.entry.state is State.DECODE and not self._schedule.wants(self.entry):
            return "parked"
        return STATES[self.entry.state]

    async def next_token(self) -> Sampled:
        """The next token, as soon as the model has made it.

        Error handling: raises the `PenstockError` that ended this sequence, after the tokens made
        before it. Cancelling it loses nothing but the wait; leaving `Decoder.open` is what frees
        the slot.
        """
        if self._tokens:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._schedule.take(self.entry)
            self._wake()
            return self._tokens.popleft()
        if self._error is not None:
            raise self._error
        self._task = trio.lowlevel.current_task()
        self._schedule.read(self.entry)
        self._wake()
        sampled: Sampled = await trio.lowlevel.wait_task_rescheduled(self._stop_reading)
        return sampled

    def close(self) -> None:
        """Free the slot; no token is wanted any more. Idempotent."""
        self._leave(self.entry)

    def put_nowait(self, sampled: Sampled) -> None:
        """Hand over one token: to the waiting reader, or into the hand of nobody yet."""
        self.computed += 1
        if self._task is None:
            self._tokens.append(sampled)
        else:
            self._resume(outcome.Value(sampled))

    def fail_nowait(self, error: PenstockError) -> None:
        """No token will follow those already made."""
        self._error = error
        if self._task is not None:
            self._resume(outcome.Error(error))

    def _resume(self, result: outcome.Outcome[Sampled]) -> None:
        assert self._task is not None
        task, self._task = self._task, None
        trio.lowlevel.reschedule(task, result)

    def _stop_reading(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        self.entry.reading = False
        return trio.lowlevel.Abort.SUCCEEDED
