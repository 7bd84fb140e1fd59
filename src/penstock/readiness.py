"""Whether models that are loaded decode."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from penstock.engine_thread import EngineThread
from penstock.served import Served

STUCK_S = 60.0
"""A turn is one step or one prompt chunk: seconds at the most."""
PROBE_S = 5.0


async def find_fault(thread: EngineThread, models: Iterable[Served]) -> str | None:
    """Why nothing can be asked of them now, or None."""
    since_s = thread.since_s
    if since_s is not None and trio.current_time() - since_s > STUCK_S:
        return "the model does not come back from a step"
    for served in models:
        with trio.move_on_after(PROBE_S) as patience:
            works = await served.decoder.works()
        if patience.cancelled_caught or not works:
            return f"the model {served.name} fails"
    return None
