"""Horizontal bars with intervals as SVG, readable on light and on dark ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intervals import Interval

COLUMNS = 2
WIDTH, ROW, HEAD, LABEL, VALUE = 460, 18, 34, 150, 60
COLOURS = {
    "penstock": "#2a7de1",
    "genai": "#8a8f98",
    "llama": "#c98b2b",
    "transformers": "#5b9e6f",
    "torch": "#8a6bbf",
    "captured": "#1b5fb3",
    "bfloat16": "#6aa5ea",
    "bare": "#8a8f98",
    "http": "#2a7de1",
}
STYLE = (
    "<style>text{font:11px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:12px}"
    ".span{stroke:#24292f;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.span{stroke:#e6edf3}}</style>"
)


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    tokens_s: Interval


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    bars: Sequence[Bar]


def svg(panels: Sequence[Panel]) -> str:
    height = HEAD + ROW * max(len(panel.bars) for panel in panels)
    rows = -(-len(panels) // COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * COLUMNS} {height * rows}" '
        'role="img" aria-label="tokens a second of each engine">',
        STYLE,
    ]
    for index, panel in enumerate(panels):
        x, y = index % COLUMNS * WIDTH, index // COLUMNS * height
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel) -> Iterator[str]:
    scale = (WIDTH - LABEL - VALUE - 10) / max(bar.tokens_s.high for bar in panel.bars)
    yield f'<text class="title" x="{LABEL}" y="20">{panel.title}, tok/s</text>'
    for index, bar in enumerate(panel.bars):
        yield from _bar(bar, HEAD + index * ROW, scale)


def _bar(bar: Bar, y: float, scale: float) -> Iterator[str]:
    found, middle = bar.tokens_s, y + ROW / 2 - 2
    low, high = LABEL + found.low * scale, LABEL + found.high * scale
    colour = COLOURS[bar.name.partition("-")[0]]
    value = f"{found.middle:,.0f}" if found.middle >= 100 else f"{found.middle:.1f}"
    yield f'<text x="{LABEL - 6}" y="{middle + 4}" text-anchor="end">{bar.name}</text>'
    yield (
        f'<rect x="{LABEL}" y="{y}" width="{found.middle * scale:.1f}" height="{ROW - 5}" '
        f'fill="{colour}"/>'
    )
    yield f'<path class="span" d="M{low:.1f} {middle}H{high:.1f}"/>'
    yield f'<text x="{high + 5:.1f}" y="{middle + 4}">{value}</text>'
