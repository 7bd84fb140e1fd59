"""The end of a generation: counted, measured and logged in this one place."""

from __future__ import annotations

import logging

import trio

from penstock.flow import Flow
from penstock.generation import Generation
from penstock.live import Live
from penstock.metrics import Metrics

log = logging.getLogger(__name__)


def account(metrics: Metrics, live: Live, source: Generation) -> None:
    """Count how it ended and what it made; observe and log its figures."""
    reason = metrics.count_end(live.terminal)
    metrics.prompt_tokens.inc(len(source.prompt.token_ids))
    metrics.tokens.inc(source.made)
    metrics.undelivered.inc(max(source.computed - live.flow.delivered, 0))
    metrics.blocked_s.inc(live.flow.blocked_s)
    figures = _observe(metrics, live.flow, source)
    log.info(
        "generation ended",
        extra={
            "reason": reason,
            "account": source.prompt.caller.account,
            "prompt_tokens": len(source.prompt.token_ids),
            "completion_tokens": source.made,
            **{name: round(value, 6) for name, value in figures.items()},
        },
    )


def _observe(metrics: Metrics, flow: Flow, source: Generation) -> dict[str, float]:
    figures = {"total_s": trio.current_time() - flow.began_s}
    metrics.total_s.observe(figures["total_s"])
    if source.first_s is not None and source.seated_s is not None:
        figures["queue_s"] = max(source.seated_s - flow.began_s, 0.0)
        figures["ttft_s"] = source.first_s - flow.began_s
        metrics.queue_s.observe(figures["queue_s"])
        metrics.ttft_s.observe(figures["ttft_s"])
    return figures
