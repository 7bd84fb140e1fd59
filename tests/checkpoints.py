"""Cancel a scenario at each of its scheduling points in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.abc


class _CancelAt(trio.abc.Instrument):
    """Cancels `scope` after the k-th step of any task that runs below the scenario."""

    def __init__(self, scope: trio.CancelScope, root: trio.lowlevel.Task, k: int) -> None:
        self._scope = scope
        self._root = root
        self.left = k

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._below(task):
            self.left -= 1
            if self.left == 0:
                self._scope.cancel()

    def _below(self, task: trio.lowlevel.Task | None) -> bool:
        while task is not None and task is not self._root:
            task = task.parent_nursery.parent_task if task.parent_nursery else None
        return task is self._root


async def cancel_everywhere(
    scenario: Callable[[], Awaitable[None]], check: Callable[[bool], Awaitable[None]]
) -> int:
    """Run `scenario` cancelled at its k-th task step for k = 1, 2 … until it ends uncancelled.

    After each run `check` is awaited with True where the run was cut short. Returns how many were.
    """
    k = 0
    while True:
        k += 1
        with trio.CancelScope() as scope:
            root = trio.lowlevel.current_task()
            instrument = _CancelAt(scope, root, k)
            trio.lowlevel.add_instrument(instrument)
            try:
                await scenario()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await check(scope.cancelled_caught)
        if instrument.left > 0:
            return k - 1
