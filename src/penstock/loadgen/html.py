"""The result as one page that needs nothing else: no script, no other host."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from penstock.loadgen import svg, text
from penstock.loadgen.figures import Figures
from penstock.loadgen.isolation import Isolation
from penstock.loadgen.result import Result
from penstock.loadgen.statistics import Summary
from penstock.loadgen.svg import Axis

STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--dim:#59636e;--rule:#d1d9e0;--page:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--rule:#3d444d;--page:#0d1117}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.6rem 0}
th,td{padding:.2rem .8rem .2rem 0;text-align:right;border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:1rem}
.note,footer{color:var(--dim)}.warn{color:#cf222e;font-weight:600}
code{overflow-wrap:anywhere}
svg{width:100%}svg text{font-size:11px;fill:var(--dim)}svg .title{font-weight:600;fill:var(--ink)}
.grid{stroke:var(--rule);stroke-width:.6}.line{fill:none;stroke-width:1.8}
.line.s0{stroke:#2a7de1}.line.s1{stroke:#d1791f}.bar.s0{fill:#2a7de1}.bar.s1{fill:#d1791f}
"""


def render(result: Result) -> str:
    """A whole HTML document."""
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>penstock bench {escape(result.url)}</title>",
            f"<style>{STYLE}</style></head><body>",
            *_body(result),
            "</body></html>\n",
        ]
    )


def _body(result: Result) -> Iterator[str]:
    yield f"<h1>{escape(result.url)}</h1>"
    server = f"{result.server}, " if result.server else ""
    yield f'<p class="note">{escape(f"{server}model {result.model}, {result.when}")}</p>'
    if result.figures:
        yield from _load(result.figures, result)
    if result.isolation:
        yield from _isolation(result.isolation)
    if result.departures:
        yield from _departures(result)
    yield from _account(result)


def _load(figures: Figures, result: Result) -> Iterator[str]:
    good = figures.goodput
    yield "<h2>Load</h2>"
    yield _table(
        ("tokens/s read", "requests", "requests/s", "failed", "goodput, requests/s", "good"),
        [
            (
                f"{figures.tokens_s:,.1f}",
                str(figures.requests),
                f"{figures.offered_s:.2f}",
                str(figures.failed),
                f"{good.requests_s:.2f}",
                text.share(good.share),
            )
        ],
    )
    yield (
        f'<p class="note">Good: first token within {text.seconds(good.slo.ttft_s)} of when the '
        f"request should have begun, then at most {text.seconds(good.slo.tpot_s)} a token.</p>"
    )
    yield _summaries(text.latencies(figures))
    yield _endings(figures)
    charts = [
        _curve("First token, part of requests", result.ttft_curve),
        _curve("Between pieces, part of gaps", result.itl_curve),
        *_timeline(figures),
    ]
    yield f'<div class="charts">{"".join(charts)}</div>'


def _isolation(found: Isolation) -> Iterator[str]:
    yield "<h2>Isolation</h2>"
    told = ", ".join(f"{count} {kind}" for kind, count in found.neighbours.items())
    yield (
        f"<p>{found.readers} readers alone and among neighbours ({escape(told)}): "
        f"<b>{text.ratio(found)}</b> of the tokens a second.</p>"
    )
    yield _summaries(text.neighbourhoods(found))
    pairs = list(zip(found.alone_tokens_s, found.among_tokens_s, strict=False))
    top = max((value for pair in pairs for value in pair), default=1) or 1
    axis = Axis("tokens/s of the readers", 0, top)
    yield f'<div class="charts">{svg.bars("Phases", axis, ("alone", "among"), pairs)}</div>'


def _departures(result: Result) -> Iterator[str]:
    yield "<h2>One who leaves, one who stops reading</h2>"
    rows = [
        (wake.way, text.REST[wake.measured], *text.cells(wake.until_s), text.cost(wake))
        for wake in result.departures
    ]
    yield _table(("reader", "then until", *text.HEAD, "spent meanwhile"), rows)


def _account(result: Result) -> Iterator[str]:
    if result.complaints:
        yield "<h2>Failures</h2>"
        rows = [(it.ending, it.detail, str(it.requests)) for it in result.complaints]
        yield _table(("ending", "detail", "requests"), rows)
    yield "<h2>How it was measured</h2>"
    for line in result.notes:
        yield f"<p>{escape(line)}</p>"
    style = ' class="warn"' if result.overhead.verdict else ""
    yield f"<p{style}>{escape('. '.join(text.overhead(result.overhead)))}</p>"
    asked = escape(shlex.join(result.asked))
    yield f"<footer><p>penstock {result.version}: <code>{asked}</code></p></footer>"


def _endings(figures: Figures) -> str:
    rows = [
        (kind, ending, str(count))
        for kind, endings in figures.endings.items()
        for ending, count in endings.items()
    ]
    return _table(("kind of reader", "ending", "requests"), rows)


def _summaries(found: dict[str, Summary]) -> str:
    rows = [(name, *text.cells(summary)) for name, summary in found.items()]
    return _table(("", *text.HEAD), rows)


def _curve(title: str, values: Sequence[float]) -> str:
    """What part of `values` is at most so many milliseconds."""
    shown = [max(1000 * value, 0.01) for value in values]
    if len(shown) < 2 or shown[0] == shown[-1]:
        return ""
    points = [(value, index / (len(shown) - 1)) for index, value in enumerate(shown)]
    x = Axis("ms", shown[0], shown[-1], log=True)
    return svg.lines(title, x, Axis("", 0, 1), [("", points)])


def _timeline(figures: Figures) -> Iterator[str]:
    bins = figures.timeline
    if len(bins) < 2:
        return
    x = Axis("s", 0, bins[-1].at_s)
    for title, values in (
        ("Tokens/s read", [(it.at_s, it.tokens_s) for it in bins]),
        ("Streams open", [(it.at_s, float(it.open)) for it in bins]),
    ):
        yield svg.lines(title, x, Axis("", 0, max(y for _, y in values) or 1), [("", values)])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(tag: str, cells: Iterable[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "".join(["<table>", line("th", head), *(line("td", row) for row in rows), "</table>"])
