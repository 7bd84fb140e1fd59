"""Writes the Grafana dashboard: `python deploy/make_dashboard.py > deploy/grafana.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
HERE = '{instance=~"$instance"}'
COLUMNS, WIDTH, HEIGHT = 3, 8, 8


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot: its title, its unit as Grafana calls it, and a query for each legend."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    about: str = ""
    stack: bool = False


def per_second(metric: str, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{HERE}[$__rate_interval]))"


def quantiles(metric: str) -> list[tuple[str, str]]:
    inner = f"sum by (le) (rate({metric}_bucket{HERE}[$__rate_interval]))"
    return [
        (f"p{round(100 * share)}", f"histogram_quantile({share}, {inner})")
        for share in (0.5, 0.95, 0.99)
    ]


def gauges(**names: str) -> list[tuple[str, str]]:
    return [(legend, f"sum ({metric}{HERE})") for legend, metric in names.items()]


PANELS = (
    Panel(
        "Tokens",
        "short",
        [
            ("made", per_second("penstock_generated_tokens_total")),
            ("of prompts", per_second("penstock_prompt_tokens_total")),
            ("never delivered", per_second("penstock_undelivered_tokens_total")),
        ],
        "Tokens a second. What is never delivered was computed for readers that left.",
    ),
    Panel("First token", "s", quantiles("penstock_time_to_first_token_seconds"), "From arrival."),
    Panel(
        "Between tokens",
        "s",
        quantiles("penstock_inter_token_seconds"),
        "What a reader that was ready waited for its next token.",
    ),
    Panel(
        "Sequences",
        "short",
        gauges(
            active="penstock_active",
            waiting="penstock_waiting",
            parked="penstock_parked",
            evicted="penstock_evicted",
        ),
        "Active ones hold a slot; parked are those among them that nobody reads; evicted have lent "
        "theirs.",
    ),
    Panel("In the queue", "s", quantiles("penstock_queue_seconds"), "From arrival to a slot."),
    Panel(
        "Until a slot is free",
        "s",
        quantiles("penstock_slot_release_seconds"),
        "From a reader's leaving.",
    ),
    Panel(
        "Endings",
        "reqps",
        [
            ("{{reason}}", per_second(f"penstock_requests_{way}_total", "reason"))
            for way in ("finished", "failed", "cancelled")
        ],
        "Generations a second, by why they ended.",
        stack=True,
    ),
    Panel(
        "Refused",
        "reqps",
        [("{{code}}", per_second("penstock_requests_refused_total", "code"))],
        "Requests a second, by error code.",
        stack=True,
    ),
    Panel(
        "Readers that block",
        "short",
        [("streams", per_second("penstock_writer_blocked_seconds_total"))],
        "Streams whose reader did not take what was there, on the mean.",
    ),
    Panel(
        "Memory",
        "bytes",
        gauges(
            parked="penstock_parked_kv_bytes",
            prompts="penstock_prefix_cache_bytes",
            jobs="penstock_job_log_bytes",
        ),
        "Copied-out KV of parked sequences, shared prompts, logs of jobs.",
    ),
    Panel("KV cache", "short", gauges(tokens="penstock_kv_tokens"), "Tokens held in slots."),
    Panel(
        "Jobs",
        "short",
        gauges(
            running="penstock_jobs_running",
            kept="penstock_jobs_kept",
            readers="penstock_job_readers",
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    return {
        "title": "penstock",
        "uid": "penstock",
        "tags": ["llm"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_datasource(), _instance()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stack else {}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _instance() -> dict[str, Any]:
    return {
        "name": "instance",
        "type": "query",
        "datasource": DATASOURCE,
        "query": "label_values(penstock_active, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def page() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
