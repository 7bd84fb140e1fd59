"""What is read from the living objects whenever somebody looks, so that it cannot drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import TypeAlias

from penstock.decoder import Decoder
from penstock.engine_thread import EngineThread
from penstock.metrics import Metrics
from penstock.served import Served

OfDecoder: TypeAlias = tuple[str, str, Callable[[Decoder], float]]

GAUGES: tuple[OfDecoder, ...] = (
    ("slots", "Sequences that the KV caches hold at once.", lambda it: it.schedule.slots),
    ("active", "Sequences that hold a slot.", lambda it: it.schedule.active),
    ("waiting", "Sequences that wait for a slot.", lambda it: it.schedule.waiting),
    ("parked", "Sequences with a slot that nobody reads.", lambda it: it.schedule.parked),
    ("evicted", "Sequences without a slot that nobody reads.", lambda it: it.schedule.evicted),
    ("parked_kv_bytes", "Memory of copied-out KV.", lambda it: it.engine.parked.bytes),
    ("prefix_cache_bytes", "Memory of shared prompts.", lambda it: it.engine.prefixes.bytes),
    ("kv_tokens", "Tokens in the KV cache.", lambda it: it.engine.cached_tokens),
    ("kv_capacity_tokens", "Tokens that the KV cache can hold.", lambda it: _capacity(it)),
)
TOTALS: tuple[OfDecoder, ...] = (
    ("evictions", "Slots taken from parked sequences.", lambda it: it.schedule.evictions),
    ("parked_kv_dropped", "Copies given up for memory.", lambda it: it.engine.parked.dropped),
    ("prefix_hits", "Prompt chunks copied.", lambda it: it.engine.prefixes.hits),
    ("prefix_misses", "Prompt chunks not known.", lambda it: it.engine.prefixes.misses),
    ("decode_steps", "Model steps.", lambda it: it.steps),
    ("decode_rows", "Rows of all model steps.", lambda it: it.rows),
)


def watch_gauges(metrics: Metrics, models: Sequence[Served], thread: EngineThread) -> None:
    """Publish what the schedules, the engines and admission are doing now, models together."""
    for name, text, value in GAUGES:
        metrics.watch(name, text, partial(_total, models, value))
    for name, text, value in TOTALS:
        metrics.watch_total(name, text, partial(_total, models, value))
    metrics.watch_sizes("batch_size", "Rows of a model step.", partial(_batches, models))
    places = "Places taken, one for each answer that was asked for."
    metrics.watch("live", places, lambda: sum(served.admission.taken for served in models))
    metrics.watch_total("engine_busy_seconds", "Time in the models.", lambda: thread.busy_s)


def _capacity(decoder: Decoder) -> int:
    return decoder.schedule.slots * decoder.engine.max_len


def _batches(models: Sequence[Served]) -> list[int]:
    """By their size. There is one even where nothing is decoded."""
    counts = [[0], *(served.decoder.batches for served in models)]
    return [sum(row) for row in zip_longest(*counts, fillvalue=0)]


def _total(models: Sequence[Served], value: Callable[[Decoder], float]) -> float:
    return sum(value(served.decoder) for served in models)
