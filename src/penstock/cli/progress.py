"""A line on the terminal that tells how a measurement goes on; nothing where there is none."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import trio

from penstock.loadgen.runner import Tally

WIDTH = 24


class Progress:
    """Shows parts of a run, each on a line that is overwritten. Leaving the block clears it."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._part = ""
        self._begun_s = 0.0

    def show(self, part: str, due_s: float, tally: Tally) -> None:
        if not self._shown:
            return
        now_s = trio.current_time()
        if part != self._part:
            self._part, self._begun_s = part, now_s
        done = bar(now_s - self._begun_s, due_s - self._begun_s)
        endings = ", ".join(f"{count} {ending}" for ending, count in tally.endings.items())
        told = f"{part} {done} {tally.in_flight} open; {endings or 'none ended'}"
        sys.stderr.write(f"\r\x1b[K{told[:110]}")
        sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def bar(done_s: float, whole_s: float) -> str:
    """How far it is; a run of unknown length shows how long it goes on."""
    if whole_s <= 0:
        return f"{done_s:.0f} s"
    filled = round(WIDTH * min(1.0, done_s / whole_s))
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done_s:.0f}/{whole_s:.0f} s"
