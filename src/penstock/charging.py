"""What a generation is charged for: nothing before it has begun, and each token once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from penstock.access.allowance import Allowance
from penstock.events import Failed
from penstock.generation import Generation
from penstock.live import Live
from penstock.requests import Prompt


@asynccontextmanager
async def charged(
    allowance: Allowance, prompt: Prompt, live: Live, make: Callable[..., Generation]
) -> AsyncIterator[Generation]:
    """A generation that may spend of `allowance`, and that `live` tells the end of.

    What another process has made of `prompt` was charged there. Raises `PenstockError` where the
    limits allow nothing.
    """
    given = sum(map(len, prompt.given))
    async with allowance:
        await allowance.begin(len(prompt.token_ids) + given, again=bool(given))
        source = make(spend=allowance.spend if allowance.counts else None)
        try:
            yield source
        finally:
            if not (source.called or given):
                allowance.forgo()
            allowance.moved = source.called and _goes_on(live)


def _goes_on(live: Live) -> bool:
    """Whether it ends for this process only, if it is a job."""
    terminal = live.terminal
    if isinstance(terminal, Failed):
        return terminal.error.kind.reason == "moved"
    return terminal is None
