"""What `gpu.py` has measured, as lines and as bars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from intervals import interval
from plot import Bar, Panel, svg

Results = dict[str, Any]


def write_plot(results: Results, file: Path) -> None:
    if drawn := list(panels(results)):
        file.write_text(svg(drawn))


def panels(results: Results) -> Iterator[Panel]:
    for shape, found in results["shapes"].items():
        engines = found.get("tokens_s", {})
        for batch in engines.get("penstock", {}):
            bars = [
                Bar(name, interval(made[batch])) for name, made in engines.items() if batch in made
            ]
            yield Panel(f"{shape}, batch {batch}", bars)
        if made := found.get("delivered"):
            bars = [
                Bar(f"{name}-{count}", interval([each[name]]))
                for count, each in made.items()
                for name in ("bare", "http")
                if name in each
            ]
            yield Panel(f"{shape}, delivered", bars)


def show(results: Results) -> None:
    for shape, found in results["shapes"].items():
        print(f"{shape} on {found.get('facts', {}).get('device')}")
        for line in lines(found):
            print(f"  {line}")


def lines(found: Results) -> Iterator[str]:
    for name, about in found.get("facts", {}).items():
        yield f"{name}: {about}"
    for name, seconds in found.get("first_token_s", {}).items():
        told = "  ".join(f"{length}: {each * 1e3:.1f} ms" for length, each in seconds.items())
        yield f"first token, {name:12} {told}"
    for name, made in found.get("tokens_s", {}).items():
        told = "  ".join(f"B{batch} {median(values):.0f}" for batch, values in made.items())
        yield f"tokens/s, {name:12} {told}"
    for count, each in found.get("delivered", {}).items():
        ratio = each.get("ratio", float("nan"))
        yield f"through HTTP, {count} streams: {each['http']:.0f} tokens/s, {ratio:.2f} of bare"
    for name in ("bandwidth_share", "bandwidth_share_captured"):
        if (share := found.get(name)) is not None:
            yield f"{name}, batch 1: {share:.2f}"
    for name, reason in found.get("failed", {}).items():
        yield f"{name}: not measured: {reason}"
    for name, reason in found.get("skipped", {}).items():
        yield f"{name}: skipped: {reason}"
