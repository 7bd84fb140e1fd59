"""What is counted, under which name. Every ending of a generation is counted here, once.

Only the cancellation counter has "cancel" in its name or labels: clients look for that word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from penstock.ending import Ending
from penstock.errors import KINDS
from penstock.events import Finished, FinishReason, Terminal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LONG_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# A `_created` gauge beside each counter doubles the page and says nothing.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has it untyped


class Watched(Collector):
    """A metric that is made whenever somebody looks."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        yield self._read()


class Metrics:
    """The counters and gauges of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.started = self._counter("requests_started", "Generations that were given a place.")
        self.refused = self._counter("requests_refused", "Requests refused.", "code")
        self.finished = self._counter("requests_finished", "Generations that ended well.", "reason")
        self.failed = self._counter("requests_failed", "Generations that broke off.", "reason")
        self.cancelled = self._counter(
            "requests_cancelled", "Generations that nobody wanted any more.", "reason"
        )
        self.jobs = self._counter("jobs", "Jobs accepted.")
        self.replayed = self._counter("jobs_replayed", "Submits that found their job made already.")
        self.expired = self._counter("jobs_expired", "Jobs forgotten when their time was over.")
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens accepted.")
        self.tokens = self._counter("generated_tokens", "Tokens made and counted in usage.")
        self.undelivered = self._counter(
            "undelivered_tokens", "Tokens computed that no reader was ever sent."
        )
        self.blocked_s = self._counter("writer_blocked_seconds", "Time spent writing to readers.")
        self.queue_s = self._histogram("queue_seconds", "From arrival to a slot.", LONG_S)
        self.ttft_s = self._histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", LONG_S
        )
        self.itl_s = self._histogram(
            "inter_token_seconds", "What a ready reader waited for its next token.", SHORT_S
        )
        self.total_s = self._histogram("generation_seconds", "From arrival to the end.", LONG_S)
        self.release_s = self._histogram(
            "slot_release_seconds", "From a reader's leaving to its slot being free.", SHORT_S
        )
        self._begin()

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read from the living object whenever somebody looks."""
        gauge = Gauge(f"penstock_{name}", text, registry=self._registry)
        gauge.set_function(value)

    def watch_total(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A counter that is read likewise."""
        self._registry.register(
            Watched(lambda: CounterMetricFamily(f"penstock_{name}", text, value()))
        )

    def watch_sizes(self, name: str, text: str, counts: Callable[[], Sequence[int]]) -> None:
        """A histogram of whole numbers: `counts` tells how often there was each, from 0 on."""
        self._registry.register(Watched(lambda: _sizes(f"penstock_{name}", text, counts())))

    def count_end(self, terminal: Terminal | None) -> str:
        """Count how a generation ended, and say so; None means that its reader went away."""
        if terminal is None:
            return self._count_cancelled("disconnect")
        if isinstance(terminal, Finished):
            self.finished.labels(terminal.finish_reason).inc()
            return terminal.finish_reason
        kind = terminal.error.kind
        if kind.cancelled:
            return self._count_cancelled(kind.reason)
        self.failed.labels(kind.reason).inc()
        return kind.reason

    def observe(self, ending: Ending) -> None:
        """Add what one generation took."""
        self.prompt_tokens.inc(len(ending.prompt.token_ids))
        self.tokens.inc(ending.completion_tokens)
        self.undelivered.inc(ending.undelivered_tokens)
        self.blocked_s.inc(ending.blocked_s)
        self.total_s.observe(ending.total_s)
        if ending.figures.queue_s is not None and ending.figures.ttft_s is not None:
            self.queue_s.observe(ending.figures.queue_s)
            self.ttft_s.observe(ending.figures.ttft_s)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def _begin(self) -> None:
        """Every series starts at 0: a rate does not see the first step of one that comes later."""
        for reason in get_args(FinishReason):
            self.finished.labels(reason)
        for reason in {"disconnect", *(kind.reason for kind in KINDS if kind.cancelled)}:
            self.cancelled.labels(reason)
        for kind in KINDS:
            if not kind.cancelled:
                self.failed.labels(kind.reason)
            if kind.status < 500:
                self.refused.labels(kind.code)

    def _count_cancelled(self, reason: str) -> str:
        self.cancelled.labels(reason).inc()
        return reason

    def _histogram(self, name: str, text: str, bounds_s: Sequence[float]) -> Histogram:
        return Histogram(f"penstock_{name}", text, registry=self._registry, buckets=bounds_s)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"penstock_{name}", text, labels, registry=self._registry)


def _sizes(name: str, text: str, counts: Sequence[int]) -> HistogramMetricFamily:
    upto = list(accumulate(counts)) or [0]
    buckets = [(str(float(size)), upto[min(size, len(upto) - 1)]) for size in SIZES]
    total = sum(size * count for size, count in enumerate(counts))
    return HistogramMetricFamily(name, text, [*buckets, ("+Inf", upto[-1])], total)
