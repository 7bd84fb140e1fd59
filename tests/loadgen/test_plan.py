"""A load is made from its seed, and is what was asked for."""

from __future__ import annotations

import statistics
from itertools import islice, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.loadgen.isolation import neighbours_of
from penstock.loadgen.lengths import LengthsError, Lognormal, Uniform, parse_lengths
from penstock.loadgen.plan import Mix, Plan, Shape

PARTS = st.floats(0, 1 / 3)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("7", Uniform(7, 7)),
        ("uniform:2,9", Uniform(2, 9)),
        ("lognormal:100,0.5,400", Lognormal(100, 0.5, 400)),
    ],
)
def test_lengths_are_read_as_they_are_written(text: str, lengths: object) -> None:
    assert parse_lengths(text) == lengths
    assert str(lengths) == text


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1.5", "x", "uniform:3", "uniform:9,2", "lognormal:9,1,5", "lognormal:9,nan,9",
     "lognormal:nan,1,9", "inf", "other:1", "lognormal:5,1,1e9"],
)  # fmt: skip
def test_what_is_no_distribution_is_refused(text: str) -> None:
    with pytest.raises(LengthsError, match=r"is not N, uniform"):
        parse_lengths(text)


@given(st.integers(), st.floats(1, 500), st.floats(0, 5))
def test_drawn_lengths_are_within_bounds(seed: int, median: float, sigma: float) -> None:
    assert 1 <= Lognormal(median, sigma, 500).draw(Random(seed)) <= 500
    assert 3 <= Uniform(3, 8).draw(Random(seed)) <= 8


def test_the_median_of_a_lognormal_is_its_median() -> None:
    random = Random(0)
    drawn = [Lognormal(100, 0.8, 10_000).draw(random) for _ in range(4000)]
    assert 95 < statistics.median(drawn) < 105


def test_arrivals_are_a_poisson_process() -> None:
    """Gaps of an exponential distribution have a deviation as large as their mean."""
    times = list(islice(Plan(1, Shape()).arrivals(50), 5000))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.05)


def test_the_same_seed_asks_the_same_and_another_does_not() -> None:
    shape = Shape(prompt=Uniform(5, 50), output=Uniform(1, 500))

    def asks(seed: int) -> list[object]:
        plan = Plan(seed, shape)
        return [plan.next(Mix(0.2, 0.2, 0.2)) for _ in range(20)]

    assert asks(3) == asks(3)
    assert asks(3) != asks(4)
    assert len({str(ask) for ask in asks(3)}) == 20


def test_a_stopped_readers_answer_is_longer_than_buffers() -> None:
    plan = Plan(0, Shape(output=Uniform(9, 9), stopped_tokens=700, leaves_after=Uniform(5, 5)))
    assert plan.next("stopped").max_tokens == 700
    assert plan.next("leaving").after == 5
    assert plan.next("reader").max_tokens == 9


@given(PARTS, PARTS, PARTS, st.integers(0, 60))
def test_streams_are_divided_as_near_to_the_mix_as_can_be(
    slow: float, stopped: float, leaving: float, streams: int
) -> None:
    kinds = Mix(slow, stopped, leaving).divide(streams)
    assert len(kinds) == streams
    for kind, part in (("slow", slow), ("stopped", stopped), ("leaving", leaving)):
        assert abs(kinds.count(kind) - part * streams) <= 2  # type: ignore[arg-type]


def test_neighbours_are_no_readers() -> None:
    assert neighbours_of(Mix(), 3) == ("stopped",) * 3
    assert sorted(neighbours_of(Mix(slow=0.1, leaving=0.1), 4)) == ["leaving"] * 2 + ["slow"] * 2
