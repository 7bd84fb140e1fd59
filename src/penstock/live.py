"""A running generation, for those who may end it: a client, a drain, a deadline."""

from __future__ import annotations

from collections.abc import Callable

import trio

from penstock.errors import STALLED, PenstockError, internal
from penstock.events import Failed, Finished, Terminal
from penstock.flow import Flow


def _nothing() -> None:
    """Before there is a sink, nothing is held back."""


class Live:
    """One running generation and its one ending.

    The first `end` counts, unless the reader never gets it: then being stalled or stopped does.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        """The id by which its client knows it."""
        self.flow = Flow()
        self.terminal: Terminal | None = None
        self.prompt_tokens = 0
        """Known once the request was admitted."""
        self.told = False
        """The writer has the terminal in its hand."""
        self.scope = trio.CancelScope()
        self.release: Callable[[], None] = _nothing
        """Tells the sink not to hold events back any more."""
        self._stop: PenstockError | None = None

    def stop(self, error: PenstockError) -> None:
        """End decoding now; the reader still gets a terminal event that says why."""
        self._stop = self._stop or error
        if isinstance(self.terminal, Finished) and not self.told:
            # What was computed to its end and not delivered is not told as whole.
            self.terminal = self.stopped()
        self.scope.cancel()
        self.release()

    def end(self, terminal: Terminal) -> Terminal:
        """How it ended. One that reached its end while it was stopped may have been cut short."""
        if self._stop is not None and isinstance(terminal, Finished):
            terminal = self.stopped()
        self.terminal = self.terminal or terminal
        return self.terminal

    def stalled(self) -> None:
        """The wire takes nothing more, whatever was computed."""
        self.terminal = Failed(PenstockError(STALLED, "the reader stopped reading"))

    def stopped(self) -> Failed:
        return Failed(self._stop or internal())
