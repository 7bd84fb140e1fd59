"""The tables of `bench/servers.py --report`, for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Found = Mapping[str, Any]


def report(found: Mapping[str, Found]) -> None:
    print("| server | tokens/s | requests done | first token p50 / p99 | goodput | ITL p99 |")
    print("|---|---|---|---|---|---|")
    for name, results in found.items():
        if "load" in results:
            print(f"| {name} | {' | '.join(load(results['load']['figures']))} |")
    print()
    print("| server | beside 4 stopped | beside 4 leaving | after one left | after one stopped |")
    print("|---|---|---|---|---|")
    for name, results in found.items():
        cells = [isolation(results, "stopped"), isolation(results, "leaving"), *wakes(results)]
        print(f"| {name} | {' | '.join(cells)} |")
    print()
    for name, results in found.items():
        for part, result in results.items():
            verdict = "; ".join(result["overhead"]["verdict"]) or "not the bottleneck"
            print(f"{name}, {part}: {result['overhead']['cpu']:.0%} of a core, {verdict}")


def load(figures: Found) -> list[str]:
    ends = figures["endings"].get("reader", {})
    return [
        f"{figures['tokens_s']:,.0f}",
        f"{ends.get('done', 0)} of {sum(ends.values())}",
        f"{ms(figures['ttft_s']['p50'])} / {ms(figures['ttft_s']['p99'])}",
        "–" if figures["goodput"]["share"] is None else f"{figures['goodput']['share']:.0%}",
        ms(figures["itl_s"]["p99"]),
    ]


def isolation(results: Found, part: str) -> str:
    """The readers' share of what they got alone, and the tokens a second behind it."""
    if part not in results:
        return "–"
    found = results[part]["isolation"]
    ratio = found["ratio"]
    alone, among = (middle(found[f"{side}_tokens_s"]) for side in ("alone", "among"))
    if ratio["median"] is None:
        return "–"
    spread = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
    return f"{ratio['median']:.2f} ({spread}); {alone:,.0f} → {among:,.0f}"


def wakes(results: Found) -> tuple[str, str]:
    """CPU time spent after leaving, after stopping, as parts of a whole answer's; until when."""
    if "departures" not in results:
        return "–", "–"
    by_cpu = {
        it["way"]: it for it in results["departures"]["departures"] if it["measured"] == "cpu"
    }
    whole = by_cpu["reader"]["cost"]["p50"]

    def told(way: str) -> str:
        cost, until = by_cpu[way]["cost"]["p50"], by_cpu[way]["until_s"]["p50"]
        return f"{ms(until)}, {cost / whole:.0%}"

    return told("leaving"), told("stopped")


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def ms(seconds: float | None) -> str:
    if seconds is None:
        return "not in time"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
