"""Tables and a plot of what `engine.py` has measured: `python bench/engine_report.py --work DIR`.

Ratios are taken within a round and are medians with 95 % intervals; above 1, the first is faster.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from intervals import Interval, interval
from plot import Bar, Panel, svg

PREFILL = 512
RATIOS = (
    ("penstock-genai_fp32", "genai-fp32"),
    ("penstock-genai_int4", "genai-int4"),
    ("penstock-fp32", "genai-fp32"),
    ("penstock-int4", "genai-int4"),
    ("penstock-int8row", "genai-int4"),
    ("penstock-int8row", "genai-int8"),
    ("penstock-int8row", "llama-Q8_0"),
    ("penstock-int4", "llama-Q4_0"),
    ("penstock-fp32", "llama-F32"),
    ("penstock-int8row", "transformers-float32"),
    ("penstock-int8row", "transformers-bfloat16"),
    ("penstock-fp32", "transformers-float32"),
)
PLOTTED = (
    "penstock-int8row",
    "penstock-int4",
    "genai-int4",
    "llama-Q8_0",
    "llama-Q4_0",
    "transformers-bfloat16",
    "penstock-fp32",
    "genai-fp32",
    "llama-F32",
    "transformers-float32",
)


class Measured:
    """All rounds of one model and batch; 0 stands for the prompt."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self.runs = runs
        self.batch: int = runs[0]["batch"]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for run in self.runs for name in run["seconds"]))

    def tokens_s(self, name: str) -> Interval:
        tokens = self.batch or PREFILL
        return interval([tokens / s for run in self.runs for s in run["seconds"].get(name, [])])

    def ratio(self, ours: str, theirs: str) -> tuple[Interval, int] | None:
        pairs = [
            theirs_s / ours_s
            for run in self.runs
            if ours in run["seconds"] and theirs in run["seconds"]
            for ours_s, theirs_s in zip(run["seconds"][ours], run["seconds"][theirs], strict=True)
        ]
        return (interval(pairs), len(pairs)) if pairs else None

    def floor_tokens_s(self, name: str) -> float | None:
        """What reading the weights and the KV once a step allows, where the files are known."""
        abouts = [run["about"][name] for run in self.runs if name in run["about"]]
        if not self.batch or not abouts or "bytes" not in abouts[0]:
            return None
        run = self.runs[0]
        length = PREFILL + run["steps"] * len(next(iter(run["seconds"].values()))) / 2
        read = abouts[0]["bytes"] + self.batch * length * abouts[0]["kv_bytes"]
        return self.batch * median(run["read_bytes_s"] for run in self.runs) / read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--plot", type=Path, help="an SVG file to write")
    options = parser.parse_args()
    measured = load(options.work / "engine.jsonl")
    for model, batches in measured.items():
        print(f"\n## {model}\n")
        print("\n".join(speeds(batches)))
        print()
        print("\n".join(ratios(batches)))
    print()
    print("\n".join(facts(measured)))
    if options.plot:
        panels = [
            panel for model, batches in measured.items() for panel in panels_of(model, batches)
        ]
        options.plot.write_text(svg(panels))


def load(file: Path) -> dict[str, dict[int, Measured]]:
    grouped: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in file.read_text().splitlines():
        run = json.loads(line)
        grouped[run["model"]][run["batch"]].append(run)
    return {
        model: {batch: Measured(runs) for batch, runs in sorted(batches.items())}
        for model, batches in grouped.items()
    }


def heads(batches: dict[int, Measured]) -> str:
    return " | ".join(f"decode B{batch}" if batch else f"prefill {PREFILL}" for batch in batches)


def speeds(batches: dict[int, Measured]) -> Iterator[str]:
    """Tokens a second, and of our own the share of what memory allows."""
    yield f"| tok/s | {heads(batches)} |"
    yield "|---|" + "---|" * len(batches)
    for name in dict.fromkeys(name for found in batches.values() for name in found.names):
        yield f"| {name} | " + " | ".join(speed(found, name) for found in batches.values()) + " |"


def speed(found: Measured, name: str) -> str:
    if name not in found.names:
        return "–"
    middle, floor = found.tokens_s(name).middle, found.floor_tokens_s(name)
    share = f" ({middle / floor:.0%} of the floor)" if floor else ""
    return f"{middle:,.0f}{share}" if middle >= 100 else f"{middle:.1f}{share}"


def ratios(batches: dict[int, Measured]) -> Iterator[str]:
    yield f"| ratio | {heads(batches)} | pairs |"
    yield "|---|" + "---|" * (len(batches) + 1)
    for ours, theirs in RATIOS:
        found = [each.ratio(ours, theirs) for each in batches.values()]
        if any(found):
            cells = [str(each[0]) if each else "–" for each in found]
            least = min(each[1] for each in found if each)
            yield f"| {ours} / {theirs} | {' | '.join(cells)} | {least} |"


def facts(measured: dict[str, dict[int, Measured]]) -> Iterator[str]:
    runs = [run for batches in measured.values() for each in batches.values() for run in each.runs]
    for name in ("threads", "date"):
        yield f"{name}: {', '.join(sorted({str(run[name]) for run in runs}))}"
    yield f"read bandwidth {interval([run['read_bytes_s'] / 1e9 for run in runs])} GB/s"
    abouts = [about for run in runs for about in run["about"].values()]
    yield from sorted({about["versions"] for about in abouts})
    yield from sorted({about["features"] for about in abouts if "features" in about})


def panels_of(model: str, batches: dict[int, Measured]) -> Iterator[Panel]:
    for batch, found in batches.items():
        bars = [Bar(name, found.tokens_s(name)) for name in PLOTTED if name in found.names]
        title = f"{model}, decode B{batch}" if batch else f"{model}, prefill {PREFILL}"
        yield Panel(title, bars)


if __name__ == "__main__":
    main()
