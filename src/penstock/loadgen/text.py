"""The result for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from penstock.loadgen.figures import Figures
from penstock.loadgen.isolation import Isolation
from penstock.loadgen.overhead import Overhead
from penstock.loadgen.result import Result
from penstock.loadgen.statistics import Summary
from penstock.loadgen.wake import Wake

WIDTH = 100
HEAD = ("p50", "p90", "p95", "p99", "max", "n")
REST = {"cpu": "CPU at rest", "metrics": "no more tokens"}


def render(result: Result) -> str:
    """Everything but the single requests, in lines of at most 100 characters."""
    return "".join(f"{piece}\n" for line in _lines(result) for piece in _folded(line))


def _folded(line: str) -> list[str]:
    return wrap(line, WIDTH, subsequent_indent="  ") if len(line) > WIDTH else [line]


def _lines(result: Result) -> Iterator[str]:
    server = f" ({result.server})" if result.server else ""
    yield f"{result.url}{server}, model {result.model}, {result.when}"
    if result.figures:
        yield from _figures(result.figures)
    if result.isolation:
        yield from _isolation(result.isolation)
    if result.departures:
        yield from _departures(result.departures)
    yield ""
    for complaint in result.complaints:
        told = f": {complaint.detail}" if complaint.detail else ""
        yield f"{complaint.requests} x {complaint.ending}{told}"
    yield from result.notes
    yield from overhead(result.overhead)


def _figures(figures: Figures) -> Iterator[str]:
    yield ""
    kinds = (f"{kind}: {_counts(ends)}" for kind, ends in figures.endings.items())
    yield f"{figures.requests} requests, {figures.offered_s:.2f}/s; {'; '.join(kinds)}"
    yield f"{figures.tokens_s:,.1f} tokens/s read"
    good = figures.goodput
    yield (
        f"goodput {good.requests_s:.2f} requests/s, {good.tokens_s:,.1f} tokens/s, "
        f"{share(good.share)} of the readers' requests"
    )
    first, each = seconds(good.slo.ttft_s), seconds(good.slo.tpot_s)
    yield f"  (first token within {first} of the moment it was due, then {each} a token)"
    yield ""
    yield row("", *HEAD)
    for name, summary in latencies(figures).items():
        yield row(name, *cells(summary))


def latencies(figures: Figures) -> dict[str, Summary]:
    return {
        "connect": figures.connect_s,
        "first token (TTFT)": figures.ttft_s,
        "between pieces (ITL)": figures.itl_s,
        "a token (TPOT)": figures.tpot_s,
        "whole answer": figures.whole_s,
    }


def _isolation(found: Isolation) -> Iterator[str]:
    yield ""
    yield f"{found.readers} readers alone, and among neighbours ({_counts(found.neighbours)})"
    yield f"  tokens/s alone  {phases(found.alone_tokens_s)}"
    yield f"  tokens/s among  {phases(found.among_tokens_s)}"
    yield f"  among / alone   {ratio(found)}"
    yield ""
    yield row("", *HEAD)
    for name, summary in neighbourhoods(found).items():
        yield row(name, *cells(summary))


def neighbourhoods(found: Isolation) -> dict[str, Summary]:
    return {
        "TTFT alone": found.alone_ttft_s,
        "TTFT among": found.among_ttft_s,
        "ITL alone": found.alone_itl_s,
        "ITL among": found.among_itl_s,
    }


def _departures(wakes: list[Wake]) -> Iterator[str]:
    yield ""
    yield row("then until", *HEAD)
    for wake in wakes:
        yield row(f"{wake.way}: {REST[wake.measured]}", *cells(wake.until_s))
        yield f"  spent meanwhile: {cost(wake)}"


def cost(wake: Wake) -> str:
    """What the server spent, in the median try and in the worst."""
    told = [wake.cost.p50 or 0.0, wake.cost.highest or 0.0]
    if wake.measured == "cpu":
        return " / ".join(seconds(each) for each in told) + " of CPU (median / most)"
    return " / ".join(f"{each:,.0f}" for each in told) + " tokens (median / most)"


def overhead(found: Overhead) -> Iterator[str]:
    each = "" if found.cpu_us_a_token is None else f", {found.cpu_us_a_token:.0f} us a token"
    yield (
        f"This generator: {found.cpu:.0%} of one of {found.cores} cores{each}; its event loop "
        f"{seconds(found.lag_s.p50)} late at p50, {seconds(found.lag_s.p99)} at p99"
    )
    if found.verdict:
        yield f"THE GENERATOR WAS A BOTTLENECK: {'; '.join(found.verdict)}"
    else:
        yield "It was not the bottleneck."


def cells(summary: Summary) -> list[str]:
    """Percentiles; one that lies among values that were still growing is told as a bound."""
    bound = f">{seconds(summary.highest)}" if summary.censored else "-"
    found = (summary.p50, summary.p90, summary.p95, summary.p99)
    told = [bound if value is None else seconds(value) for value in found]
    highest = bound if summary.censored else seconds(summary.highest)
    return [*told, highest, str(summary.n)]


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def phases(values: list[float]) -> str:
    return "  ".join(f"{value:,.0f}" for value in values)


def ratio(found: Isolation) -> str:
    them = found.ratio
    if them.median is None or them.low is None or them.high is None:
        return "-"
    return f"{them.median:.2f} ({them.low:.2f} to {them.high:.2f}, {them.pairs} pairs)"


def row(name: str, *values: str) -> str:
    return f"{name:<28}" + "".join(f"{value:>11}" for value in values)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
