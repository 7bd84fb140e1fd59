"""Looks at the server from outside: its own metrics, and the CPU time of its process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Names:
    """What a server calls its requests at work, those that wait, and its tokens made."""

    server: str
    running: str
    waiting: str
    tokens: str


KNOWN = (
    Names("penstock", "penstock_active", "penstock_waiting", "penstock_decode_rows_total"),
    Names(
        "vLLM", "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:generation_tokens"
    ),
    Names(
        "llama.cpp",
        "llamacpp:requests_processing",
        "llamacpp:requests_deferred",
        "llamacpp:tokens_predicted",
    ),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a server's metrics say of it."""

    server: str
    busy: float
    tokens: float


def read_metrics(text: str) -> Seen | None:
    """What a page of metrics says; None where it is of no server that is known."""
    try:
        values = _sums(text)
    except ValueError:
        return None
    for names in KNOWN:
        if names.running in values:
            busy = values[names.running] + values.get(names.waiting, 0)
            tokens = values.get(f"{names.tokens}_total", values.get(names.tokens, 0))
            return Seen(names.server, busy, tokens)
    return None


def cpu_s(process: int) -> float:
    """CPU seconds that a process has used, with threads that have ended. Raises OSError.

    The number of its clock is made as Linux's `clock_getcpuclockid` makes it.
    """
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:
        raise OSError(f"the CPU time of process {process} cannot be seen here") from None


def _sums(text: str) -> Mapping[str, float]:
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0) + sample.value
    return values
