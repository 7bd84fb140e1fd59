"""Gauges: read from the living objects whenever somebody looks, so they cannot drift."""

from __future__ import annotations

from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.metrics import Metrics


def watch_gauges(metrics: Metrics, decoder: Decoder, admission: Admission) -> None:
    """Publish what the schedule, the engine and admission are doing now."""
    schedule, watch = decoder.schedule, metrics.watch
    watch("active", "Sequences that hold a slot.", lambda: schedule.active)
    watch("waiting", "Sequences that wait for a slot.", lambda: schedule.waiting)
    watch("parked", "Sequences with a slot that nobody reads.", lambda: schedule.parked)
    watch("evicted", "Sequences without a slot that nobody reads.", lambda: schedule.evicted)
    engine = decoder.engine
    watch("evictions", "Slots taken from parked sequences.", lambda: schedule.evictions)
    watch("parked_kv_bytes", "Memory of copied-out KV.", lambda: engine.parked.bytes)
    watch("parked_kv_dropped", "Copies given up for memory.", lambda: engine.parked.dropped)
    watch("prefix_cache_bytes", "Memory of shared prompts.", lambda: engine.prefixes.bytes)
    watch("prefix_hits", "Prompt chunks copied.", lambda: engine.prefixes.hits)
    watch("prefix_misses", "Prompt chunks not known.", lambda: engine.prefixes.misses)
    watch("live", "Generations that have a place.", lambda: admission.taken)
    watch("decode_steps", "Model steps so far.", lambda: decoder.steps)
    watch("decode_rows", "Rows of all model steps so far.", lambda: decoder.rows)
    watch("engine_busy_seconds", "Time in the model.", lambda: decoder.thread.busy_s)
