"""Gauges: read from the living objects whenever somebody looks, so they cannot drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from penstock.decoder import Decoder
from penstock.engine_thread import EngineThread
from penstock.metrics import Metrics
from penstock.served import Served

OF_A_DECODER: tuple[tuple[str, str, Callable[[Decoder], float]], ...] = (
    ("active", "Sequences that hold a slot.", lambda it: it.schedule.active),
    ("waiting", "Sequences that wait for a slot.", lambda it: it.schedule.waiting),
    ("parked", "Sequences with a slot that nobody reads.", lambda it: it.schedule.parked),
    ("evicted", "Sequences without a slot that nobody reads.", lambda it: it.schedule.evicted),
    ("evictions", "Slots taken from parked sequences.", lambda it: it.schedule.evictions),
    ("parked_kv_bytes", "Memory of copied-out KV.", lambda it: it.engine.parked.bytes),
    ("parked_kv_dropped", "Copies given up for memory.", lambda it: it.engine.parked.dropped),
    ("prefix_cache_bytes", "Memory of shared prompts.", lambda it: it.engine.prefixes.bytes),
    ("prefix_hits", "Prompt chunks copied.", lambda it: it.engine.prefixes.hits),
    ("prefix_misses", "Prompt chunks not known.", lambda it: it.engine.prefixes.misses),
    ("kv_tokens", "Tokens in the KV cache.", lambda it: it.engine.cached_tokens),
    ("decode_steps", "Model steps so far.", lambda it: it.steps),
    ("decode_rows", "Rows of all model steps so far.", lambda it: it.rows),
)


def watch_gauges(metrics: Metrics, models: Sequence[Served], thread: EngineThread) -> None:
    """Publish what the schedules, the engines and admission are doing now, models together."""
    for name, text, value in OF_A_DECODER:
        metrics.watch(name, text, partial(_total, models, value))
    places = "Places taken, one for each answer that was asked for."
    metrics.watch("live", places, lambda: sum(served.admission.taken for served in models))
    metrics.watch("engine_busy_seconds", "Time in the models.", lambda: thread.busy_s)


def _total(models: Sequence[Served], value: Callable[[Decoder], float]) -> float:
    return sum(value(served.decoder) for served in models)
