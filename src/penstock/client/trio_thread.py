"""Trio in a thread of its own, for callers that have no loop, or another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

import outcome
import trio

T = TypeVar("T")


class TrioThread:
    """Runs async functions for whoever calls, from any thread. `end` it."""

    def __init__(self) -> None:
        self.ended = False
        self._started: Future[tuple[trio.lowlevel.TrioToken, trio.Nursery]] = Future()
        self._thread = Thread(target=trio.run, args=(self._main,), name="penstock", daemon=True)
        self._thread.start()
        self._token, self._nursery = self._started.result()

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:  # noqa: ANN401
        """What `function` gives or raises. An interrupt of the caller cancels it first."""
        if self.ended:
            raise RuntimeError("this client was closed")
        call = _Call(function, args)
        self._token.run_sync_soon(self._nursery.start_soon, call.run)
        try:
            answer = call.answer.result()
        except BaseException:
            self._token.run_sync_soon(call.scope.cancel)
            call.answer.result()
            raise
        if isinstance(answer, outcome.Error) and isinstance(answer.error, trio.Cancelled):
            raise RuntimeError("this client was closed by another thread")
        result: T = answer.unwrap()
        return result

    def end(self) -> None:
        """Stop the loop and wait for the thread."""
        self.ended = True
        self._token.run_sync_soon(self._nursery.cancel_scope.cancel)
        self._thread.join()

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            self._started.set_result((trio.lowlevel.current_trio_token(), nursery))
            await trio.sleep_forever()


class _Call:
    """One function in the loop, and what became of it."""

    def __init__(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        self.scope = trio.CancelScope()
        self.answer: Future[outcome.Outcome[Any]] = Future()
        self._function = function
        self._args = args

    async def run(self) -> None:
        with self.scope:
            result = await outcome.acapture(self._function, *self._args)
        self.answer.set_result(result)
