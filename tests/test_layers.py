"""The architecture, as rules: imports point down, rooms stay small, pure rooms stay pure."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "penstock"
FILES = sorted(SOURCE.rglob("*.py"))

# A module's layer is that of the longest prefix listed. Imports go to the same layer or below.
LAYERS = {
    "penstock.events": 0,
    "penstock.origin": 0,
    "penstock.ending": 0,
    "penstock.requests": 0,
    "penstock.errors": 0,
    "penstock.settings": 0,
    "penstock.access_settings": 0,
    "penstock.store_settings": 0,
    "penstock.device_settings": 0,
    "penstock.limits": 0,
    "penstock.models": 0,
    "penstock.progress": 0,
    "penstock.access": 1,
    "penstock.access.allowance": 2,
    "penstock.access.ledger": 2,
    "penstock.access.memory_ledger": 2,
    "penstock.engine": 1,
    "penstock.protocols": 1,
    "penstock.export": 1,
    "penstock.schedule": 1,
    "penstock.fairness": 1,
    "penstock.turns": 1,
    "penstock.patience": 1,
    "penstock.engine_thread": 2,
    "penstock.reader": 2,
    "penstock.decoder": 2,
    "penstock.flow": 2,
    "penstock.live": 2,
    "penstock.deadlines": 2,
    "penstock.pipeline": 2,
    "penstock.writer": 2,
    "penstock.generation": 2,
    "penstock.jobs.job": 0,
    "penstock.jobs.window": 1,
    "penstock.jobs.redis.address": 1,
    "penstock.jobs.redis.codec": 1,
    "penstock.jobs.redis.snapshot": 1,
    "penstock.jobs": 2,
    "penstock.accounting": 2,
    "penstock.charging": 2,
    "penstock.admission": 2,
    "penstock.gauges": 2,
    "penstock.metrics": 2,
    "penstock.served": 2,
    "penstock.grammar_trial": 2,
    "penstock.loadgen.lengths": 1,
    "penstock.loadgen.plan": 1,
    "penstock.loadgen.dialect": 1,
    "penstock.loadgen.events": 1,
    "penstock.loadgen.statistics": 1,
    "penstock.loadgen.outcome": 1,
    "penstock.loadgen.figures": 1,
    "penstock.loadgen.isolation": 1,
    "penstock.loadgen.wake": 1,
    "penstock.loadgen.probes": 2,
    "penstock.loadgen": 4,
    "penstock.streams": 2,
    "penstock.choosing": 2,
    "penstock.readiness": 2,
    "penstock.lives": 2,
    "penstock.service": 3,
    "penstock.edge_service": 3,
    "penstock.tracing": 3,
    "penstock.otel": 3,
    "penstock.memory": 3,
    "penstock.sizing": 3,
    "penstock.devices": 3,
    "penstock.build": 3,
    "penstock.web": 4,
    "penstock.asgi": 4,
    "penstock.logs": 4,
    "penstock.cli.roster": 1,
    "penstock.cli": 4,
    "penstock.client": 4,
    "penstock.__main__": 4,
}
# Rooms on one layer that do not know each other.
APART = [
    ("engine", "protocols"),
    ("engine", "export"),
    ("protocols", "export"),
    ("protocols", "schedule"),
    ("client", "web"),
]
ALLOWED = {
    0: {"msgspec"},
    1: {
        "msgspec",
        "numpy",
        "onnxruntime",
        "tokenizers",
        "jinja2",
        "onnx",
        "llguidance",
        "ml_dtypes",
    },
    2: {"trio", "outcome", "prometheus_client", "structlog", "glide"},
    3: {"trio", "opentelemetry"},
    4: {
        "trio",
        "click",
        "httpx",
        "httpx_sse",
        "huggingface_hub",
        "msgspec",
        "onnxruntime",
        "outcome",
        "h11",
        "wsproto",
        "h2",
        "hypercorn",
        "quart",
        "quart_trio",
        "structlog",
        "werkzeug",
    },
}
CLOCKS = {"time", "datetime", "threading", "socket", "asyncio"}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int | None:
    prefixes = [name for name in LAYERS if module == name or module.startswith(name + ".")]
    return LAYERS[max(prefixes, key=len)] if prefixes else None


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def root_of(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    layer = layer_of(name_of(path))
    if layer is None:
        assert name_of(path) == "penstock", "a new module: give it a layer in LAYERS"
        return
    for imported in imports_of(path):
        if imported.startswith("penstock."):
            below = layer_of(imported)
            assert below is None or below <= layer, f"imports {imported} from above"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_foreign_packages_stay_in_their_layer(path: Path) -> None:
    layer = layer_of(name_of(path))
    foreign = {name.split(".")[0] for name in imports_of(path)} - {"penstock"}
    third_party = {name for name in foreign if name not in sys.stdlib_module_names}
    if layer is not None:
        assert third_party <= ALLOWED[layer]


def test_only_one_room_knows_redis() -> None:
    knowing = {name_of(path) for path in FILES if "glide" in map(root_of, imports_of(path))}
    assert knowing
    assert all(name.startswith("penstock.jobs.redis.") for name in knowing)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_pure_rooms_know_no_clock_thread_or_socket(path: Path) -> None:
    if (layer_of(name_of(path)) or 0) <= 1:
        assert not {name.split(".")[0] for name in imports_of(path)} & CLOCKS


@pytest.mark.parametrize(("one", "other"), APART)
def test_rooms_of_one_layer_stay_apart(one: str, other: str) -> None:
    for path in FILES:
        for mine, theirs in ((one, other), (other, one)):
            if name_of(path).startswith(f"penstock.{mine}"):
                assert not any(name.startswith(f"penstock.{theirs}") for name in imports_of(path))


def test_no_file_is_longer_than_250_lines() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 250} == {}


def test_the_median_function_is_shorter_than_ten_lines() -> None:
    lengths = [
        (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert statistics.median(lengths) < 10


def test_the_pipeline_fits_on_two_pages() -> None:
    assert len((SOURCE / "pipeline.py").read_text().splitlines()) <= 160


def test_nothing_yields_inside_a_nursery_or_a_cancel_scope() -> None:
    """PEP 789: such a generator can leak a cancellation into its caller."""
    scopes = {"open_nursery", "CancelScope", "move_on_after", "fail_after", "move_on_at", "fail_at"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.With | ast.AsyncWith):
                called = {
                    getattr(call.func, "attr", "")
                    for item in node.items
                    if isinstance(call := item.context_expr, ast.Call)
                }
                yields = any(
                    isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node)
                )
                assert not (called & scopes and yields), f"{path}:{node.lineno}"


def test_streams_and_channels_are_closed_synchronously() -> None:
    """`async with channel` ends with a checkpoint that can replace the error being raised."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncWith):
                names = {getattr(item.context_expr, "id", "") for item in node.items}
                assert not names & {"send", "receive", "channel"}, f"{path}:{node.lineno}"
