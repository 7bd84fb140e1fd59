"""A job that another process decodes, as far as it is known here."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.jobs.store import Log


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What `Streams` tells of it. `prompt_tokens` is None where nobody here has counted them."""

    log: Log
    prompt_tokens: int | None = None

    @property
    def account(self) -> str:
        return self.log.job.order.request.caller.account

    @property
    def state(self) -> str:
        """queued, decode or ended: whether it rests is known to its own process only."""
        known = self.log.known()
        if known.terminal is not None:
            return "ended"
        return "decode" if known.last_id else "queued"

    @property
    def computed(self) -> int:
        """Its events: each has a token, and few have more."""
        return self.log.known().last_id
