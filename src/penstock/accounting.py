"""The end of a generation: counted, measured, logged and traced in this one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import structlog
import trio

from penstock import origin
from penstock.ending import Ending
from penstock.errors import PenstockError
from penstock.events import Failed, Finished, Terminal
from penstock.generation import Generation
from penstock.live import Live
from penstock.metrics import Metrics
from penstock.origin import Origin

log = structlog.get_logger()

Trace: TypeAlias = Callable[[Ending], None]
"""Told of each generation once it has ended."""


def untraced(ending: Ending) -> None:
    """Nobody collects spans."""


def account(metrics: Metrics, trace: Trace, live: Live, source: Generation) -> None:
    """Count how it ended and what it made, observe its figures, log it and trace it."""
    ending = _end(metrics.count_end(live.terminal), live, source)
    metrics.observe(ending)
    log.info("generation ended", **ending.told())
    trace(ending)


def account_reader(live: Live, job_id: str) -> None:
    """Log how one reader of a job fared. The job itself is accounted for when it ends."""
    asked = replace(origin.current(), generation_id=job_id)
    log.info(
        "job read",
        reason=_reason(live.terminal),
        **asked.told(),
        delivered_tokens=live.flow.delivered,
        total_s=round(trio.current_time() - live.flow.began_s, 6),
        blocked_s=round(live.flow.blocked_s, 6),
    )


def _reason(terminal: Terminal | None) -> str:
    if terminal is None:
        return "disconnect"
    if isinstance(terminal, Finished):
        return terminal.finish_reason
    return terminal.error.kind.reason


def refuse(metrics: Metrics, error: PenstockError, asked: Origin) -> None:
    """Count and log a request that was refused."""
    metrics.refused.labels(error.kind.code).inc()
    log.info("request refused", code=error.kind.code, status=error.kind.status, **asked.told())


def _end(reason: str, live: Live, source: Generation) -> Ending:
    flow, terminal = live.flow, live.terminal
    ended_at_s = trio.current_time()
    return Ending(
        reason=reason,
        code=terminal.error.kind.code if isinstance(terminal, Failed) else None,
        origin=origin.current(),
        asked=source.asked,
        prompt=source.prompt,
        completion_tokens=source.made,
        undelivered_tokens=max(source.computed - flow.delivered, 0),
        blocked_s=flow.blocked_s,
        seated_at_s=source.seated_s,
        first_at_s=source.first_s,
        ended_at_s=ended_at_s,
        figures=(terminal and terminal.figures) or source.figures(ended_at_s),
    )
