"""The dashboard and the alerts name only what `/metrics` has."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

from penstock import errors
from penstock.build import build_service
from penstock.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PLOTTED = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
WATCHED = [rule["expr"] for rule in RULES]

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, errors.Kind)]
REASONS = {"stop", "length", "disconnect"} | {kind.reason for kind in KINDS}
VALUES = {"code": {kind.code for kind in KINDS}, "reason": REASONS}
LABELS = {"instance", "le", *VALUES}


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Every name that a sample of a server may have."""
    found: set[str] = set()
    for line in build_service(Settings()).metrics.render().decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            parts = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
            found |= {name + part for part in parts}
    return found


@pytest.mark.parametrize("query", [*PLOTTED, *WATCHED])
def test_a_query_asks_for_what_there_is(query: str, names: set[str]) -> None:
    asked = set(re.findall(r"\bpenstock_\w+", query))
    assert asked
    assert asked <= names
    for label, value in re.findall(r'(\w+)=~?"([^"]*)"', query):
        assert label in LABELS
        assert value == "$instance" or value in VALUES[label]
    for labels in re.findall(r"\bby \(([^)]*)\)", query):
        assert set(labels.split(", ")) <= LABELS


def test_every_way_to_end_is_plotted() -> None:
    plotted = " ".join(PLOTTED)
    for way in ("finished", "failed", "cancelled", "refused"):
        assert f"penstock_requests_{way}_total" in plotted


def test_the_dashboard_is_what_its_script_makes() -> None:
    page = runpy.run_path(str(DEPLOY / "make_dashboard.py"))["page"]()
    assert (DEPLOY / "grafana.json").read_text() == page, "run `just docs`"


def test_an_alert_says_what_to_do() -> None:
    for rule in RULES:
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert "$labels.instance" in rule["annotations"]["summary"]


def test_panels_do_not_overlap() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) == 14
