"""One result, told three ways."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from array import array
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.loadgen import html, svg, text
from penstock.loadgen.figures import Slo, figures
from penstock.loadgen.isolation import Phase, Trial, account
from penstock.loadgen.outcome import ENDINGS, Outcome
from penstock.loadgen.overhead import Overhead, judge
from penstock.loadgen.result import Result, complaints, curve, hides, notes, rows
from penstock.loadgen.statistics import summarise
from penstock.loadgen.svg import Axis
from penstock.loadgen.wake import wake

OUTCOMES = [
    Outcome(
        number=number,
        kind="reader",
        ending=ending,
        meant_s=float(number),
        begun_s=float(number),
        connected_s=number + 0.1,
        ended_s=number + 4.0,
        times=array("d", [number + 1.0, number + 2.0]),
        bytes_read=500,
        detail="<b>what</b>" if ending != "done" else "",
    )
    for number, ending in enumerate(ENDINGS)
]
CALM = Overhead(9, 1, 0.11, 80, summarise([0.001]), summarise([0.001]), 2, [])


def make_result(**fields: object) -> Result:
    trial = Trial(readers=2, neighbours=("stopped", "slow"), pairs=1)
    phases = [Phase(among=False, start_s=0, end_s=4), Phase(among=True, start_s=4, end_s=8)]
    whole: dict[str, object] = {
        "version": "1",
        "when": "2026-11-21T00:00:00+00:00",
        "url": "http://<test>",
        "server": "penstock",
        "model": "m",
        "asked": ["penstock", "bench"],
        "overhead": CALM,
        "figures": figures(OUTCOMES, 0, 11, Slo()),
        "isolation": account(trial, phases, OUTCOMES),
        "departures": [wake("leaving", "cpu", [(0.01, 0.2), (None, 9.0)])],
        "ttft_curve": [0.1, 0.2, 0.4],
        "complaints": complaints(OUTCOMES),
        "requests": rows(OUTCOMES),
    }
    return Result(**(whole | fields))  # type: ignore[arg-type]


class _Page(HTMLParser):
    """What a page holds, and that its tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {tag, *(name for name, _ in attrs)}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {tag, *(name for name, _ in attrs)}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_needs_no_script_and_no_other_host() -> None:
    page = _Page(html.render(make_result()))
    assert page.open == []
    assert not page.seen & {"script", "link", "img", "src", "href", "onclick", "iframe"}
    assert "http://<test>" in page.words
    assert "<b>what</b>" in page.words, "escaped once, as text"


def test_every_failure_is_told_everywhere() -> None:
    result = make_result()
    told = [text.render(result), _Page(html.render(result)).words]
    for ending in set(ENDINGS) - {"done", "left", "held"}:
        assert f"1 x {ending}: <b>what</b>" in told[0]
        assert ending in told[1]
    assert result.figures
    assert result.figures.failed == len(ENDINGS) - 3


def test_the_text_fits_a_terminal() -> None:
    assert max(map(len, text.render(make_result()).splitlines())) <= 100


def test_json_has_no_number_that_json_has_not() -> None:
    data = msgspec.json.decode(msgspec.json.encode(make_result()))
    assert data["departures"][0]["until_s"]["p99"] is None
    assert data["figures"]["endings"] == {"reader": dict.fromkeys(ENDINGS, 1)}
    assert len(data["requests"]) == len(ENDINGS)


def test_a_percentile_beyond_what_was_seen_is_a_bound() -> None:
    assert text.cells(summarise([1.0, 2.0], censored=2)) == [
        *("2.00 s", ">2.00 s", ">2.00 s", ">2.00 s", ">2.00 s", "4"),
    ]
    assert text.cells(summarise([])) == ["-", "-", "-", "-", "-", "0"]
    assert text.cells(summarise([], censored=1))[0] == ">-"


@pytest.mark.parametrize(
    ("cpu", "lag_s", "late_s", "signs"),
    [(0.5, 0.01, 0.01, 0), (0.9, 0.01, 0.01, 1), (0.5, 0.05, 0.01, 1), (0.95, 0.05, 0.05, 3)],
)
def test_a_generator_that_is_too_slow_says_so(
    cpu: float, lag_s: float, late_s: float, signs: int
) -> None:
    verdict = list(judge(cpu, summarise([lag_s]), summarise([late_s])))
    assert len(verdict) == signs
    overhead = Overhead(9, 1, cpu, 80, summarise([lag_s]), summarise([late_s]), 2, verdict)
    told = text.render(make_result(overhead=overhead))
    assert ("BOTTLENECK" in told) == bool(signs)


def test_answers_that_buffers_may_hide_are_warned_of() -> None:
    assert "too much" not in hides(45_000, 250, 900)
    assert "too much" in hides(45_000, 250, 200)
    assert "pieces of text are taken for tokens" in next(notes(OUTCOMES, 900, None))


@given(st.lists(st.floats(0, 100), max_size=1000))
def test_a_curve_keeps_its_ends_and_its_order(values: list[float]) -> None:
    thin = curve(values)
    assert len(thin) == min(len(values), 200)
    assert thin == sorted(thin)
    assert (thin[:1], thin[-1:]) == (sorted(values)[:1], sorted(values)[-1:])


@given(st.floats(1e-3, 1e6), st.floats(1.001, 1e6))
def test_an_axis_keeps_its_ticks_within_its_ends(high: float, times: float) -> None:
    for axis in (Axis("x", 0, high), Axis("x", high, high * times, log=True)):
        ticks, scale = axis.ticks(), axis.scale(10, 100)
        assert len(ticks) <= 13
        assert all(earlier < later for earlier, later in pairwise(ticks))
        assert all(10 - 1e-6 <= scale(tick) <= 100 + 1e-6 for tick in ticks)


def test_a_chart_is_well_formed() -> None:
    drawn = svg.bars("<&>", Axis("y", 0, 5), ("a", "b"), [(1, 2), (3, 5)])
    parsed = ET.fromstring(drawn)
    assert parsed.attrib["aria-label"] == "<&>"
    assert len([it for it in parsed if it.tag == "rect"]) == 6
