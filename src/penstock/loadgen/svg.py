"""Charts as SVG: lines and bars, readable on light and on dark ground. Sizes are in SVG units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 34
Point: TypeAlias = tuple[float, float]
Scale: TypeAlias = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Axis:
    """`log` axes begin at the smallest value, others at 0."""

    name: str
    low: float
    high: float
    log: bool = False

    def ticks(self) -> list[float]:
        if self.log:
            low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            each = (1, 2, 5) if high - low <= 3 else (1,)
            ticks = [part * 10.0**power for power in range(low, high + 1) for part in each]
            return [tick for tick in ticks if self.low <= tick <= self.high]
        step = _step(self.high - self.low)
        count = math.floor((self.high - self.low) / step + 1e-9)
        return [self.low + step * number for number in range(count + 1)]

    def scale(self, start: float, end: float) -> Scale:
        take: Scale = math.log10 if self.log else float
        low, high = take(self.low), take(self.high)
        each = (end - start) / (high - low)
        return lambda value: start + (take(min(max(value, self.low), self.high)) - low) * each


def lines(title: str, x: Axis, y: Axis, series: Sequence[tuple[str, Sequence[Point]]]) -> str:
    """One line for each of `series`, with its name at the top."""
    across, up = x.scale(LEFT, WIDTH - RIGHT), y.scale(HEIGHT - BOTTOM, TOP)
    drawn = [_line(points, across, up, number) for number, (_, points) in enumerate(series)]
    return _chart(title, [*_axes(x, y, across, up), *drawn, *_legend([name for name, _ in series])])


def bars(title: str, y: Axis, names: Sequence[str], groups: Sequence[Sequence[float]]) -> str:
    """A group of bars for each turn, one bar for each of `names`."""
    up = y.scale(HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    drawn = [
        _bar(LEFT + (index + 0.15) * width, number, value, 0.7 * width / len(group), up)
        for index, group in enumerate(groups)
        for number, value in enumerate(group)
    ]
    x = Axis("pair of phases", 0, 1)
    labels = [
        f'<text x="{LEFT + (index + 0.5) * width:.0f}" y="{HEIGHT - BOTTOM + 14}" '
        f'text-anchor="middle">{index + 1}</text>'
        for index in range(len(groups))
    ]
    axes = [*_names(x, y), *_rows(y, up)]
    return _chart(title, [*axes, *drawn, *labels, *_legend(names)])


def _chart(title: str, parts: Sequence[str]) -> str:
    told = escape(title)
    head = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">'
        f'<text class="title" x="{LEFT}" y="14">{told}</text>'
    )
    return "".join([head, *parts, "</svg>"])


def _axes(x: Axis, y: Axis, across: Scale, up: Scale) -> Iterator[str]:
    yield from _names(x, y)
    yield from _rows(y, up)
    for tick in x.ticks():
        at = across(tick)
        yield f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield (
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">'
            f"{_number(tick)}</text>"
        )


def _rows(y: Axis, up: Scale) -> Iterator[str]:
    for tick in y.ticks():
        at = up(tick)
        yield f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>'


def _names(x: Axis, y: Axis) -> Iterator[str]:
    yield (
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x.name)}</text>'
        f'<text x="4" y="{TOP - 4}">{escape(y.name)}</text>'
    )


def _line(points: Sequence[Point], across: Scale, up: Scale, number: int) -> str:
    told = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)
    return f'<path class="line s{number}" d="M{told}"/>' if points else ""


def _bar(x: float, number: int, value: float, width: float, up: Scale) -> str:
    top, floor = up(value), HEIGHT - BOTTOM
    return (
        f'<rect class="bar s{number}" x="{x + number * width:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{floor - top:.1f}"/>'
    )


def _legend(names: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        if not name:
            continue
        x = WIDTH - RIGHT - 90 * (len(names) - number)
        yield f'<rect class="bar s{number}" x="{x}" y="6" width="9" height="9"/>'
        yield f'<text x="{x + 13}" y="14">{escape(name)}</text>'


def _step(span: float) -> float:
    """A round distance of ticks that gives at most six."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * each for each in (1, 2, 5, 10) if power * each >= rough * (1 - 1e-9))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
