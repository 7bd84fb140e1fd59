"""The one thread on which the models run, one turn at a time.

A dedicated thread costs 23 us a hop where `trio.to_thread` costs 48 us. Waiting for it is shielded:
the session reads and writes arrays by raw pointer, and those must stay alive until it returns.

Python's global lock stands between the two threads. The event loop has up to a millisecond of
tokens to write just when the model is to start again, and does not let go of the lock meanwhile.
Two measures against that, measured at 16 streams on two cores: the loop waits until the model's
thread has begun (model busy 88 % -> 92 % of the time), and the lock changes hands at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from sys import getswitchinterval, setswitchinterval
from threading import Thread
from time import perf_counter
from types import TracebackType
from typing import Self, TypeVar, cast

import outcome
import trio

SWITCH_INTERVAL_S = 50e-6
"""For `sys.setswitchinterval`; Python's 5 ms is longer than a step of a small model."""
HANDOVER_S = 2e-3
"""How long the event loop stands still at the most; 0.06 to 0.25 ms were seen."""

T = TypeVar("T")
Job = Callable[[], object]


class EngineThread:
    """Runs one function at a time. Use as a context manager around everything that calls it.

    Decoders of several models take turns on it: one thread budget, and one step at a time. It
    lives from the first of them entering to the last one leaving.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._users = 0
        self._begun: SimpleQueue[None] = SimpleQueue()
        self._switch_interval_s = getswitchinterval()
        self._turn = trio.Lock()
        self.busy_s = 0.0
        """Seconds spent inside functions so far."""
        self.since_s: float | None = None
        """Since when a function runs, in Trio's time."""

    def __enter__(self) -> Self:
        self._users += 1
        if self._users == 1:
            self._switch_interval_s = getswitchinterval()
            setswitchinterval(SWITCH_INTERVAL_S)
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._users -= 1
        if self._users or self._thread is None:
            return
        self._jobs.put(None)
        self._thread.join()
        self._thread = None
        setswitchinterval(self._switch_interval_s)

    def prepare(self, function: Callable[[], T]) -> T:
        """The result of `function()` on the thread, where Trio does not run yet.

        What a thread has captured of a model (`engine/captures.py`) is that thread's alone. The
        thread stays until somebody has entered and left, or the process ends.
        """
        results: SimpleQueue[outcome.Maybe[T]] = SimpleQueue()
        self._start()
        self._jobs.put(lambda: results.put(outcome.capture(function)))
        return results.get().unwrap()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._work, name="penstock-engine", daemon=True)
            self._thread.start()

    async def acquire(self) -> None:
        """Wait for a turn, in order of asking; no scheduler pass is spent where nobody else asks.

        Whoever has the turn may call `run`, and then `release`.
        """
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            await self._turn.acquire()

    def release(self) -> None:
        """Give the turn to the next who asked for it."""
        self._turn.release()

    async def run(self, function: Callable[[], T]) -> T:
        """The result of `function()`, or what it raised. Cannot be cancelled while it runs."""
        task = trio.lowlevel.current_task()
        with suppress(Empty):  # left by a job that began too late
            self._begun.get_nowait()
        self._jobs.put(partial(self._answer, function, task, trio.lowlevel.current_trio_token()))
        with suppress(Empty):
            self._begun.get(timeout=HANDOVER_S)
        self.since_s = trio.current_time()
        result = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        self.since_s = None
        return cast("T", result)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _answer(
        self,
        function: Callable[[], object],
        task: trio.lowlevel.Task,
        token: trio.lowlevel.TrioToken,
    ) -> None:
        self._begun.put(None)
        started = perf_counter()
        result = outcome.capture(function)
        self.busy_s += perf_counter() - started
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)
