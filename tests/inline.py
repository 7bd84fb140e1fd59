"""The model on the event loop's own thread, so that virtual time stands still while it runs."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import trio

from penstock.engine_thread import EngineThread

T = TypeVar("T")


class InlineThread(EngineThread):
    """No thread. Others still get a turn while a function runs, and it cannot be cancelled."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    async def run(self, function: Callable[[], T]) -> T:
        await trio.lowlevel.cancel_shielded_checkpoint()
        result = function()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return result
