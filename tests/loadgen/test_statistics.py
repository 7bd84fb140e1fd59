"""Figures that do not flatter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.loadgen.statistics import Comparison, at_share, compare, gaps, quiet_from, summarise

SECONDS = st.floats(0, 1e6)
SOME = st.lists(SECONDS, min_size=1, max_size=80)


@given(SOME, st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(
    values: list[float], percent: int
) -> None:
    found = at_share(sorted(values), percent / 100, len(values))
    assert found is not None
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)


@given(SOME, st.integers(0, 40))
def test_one_who_still_waits_counts_as_slower_than_all(values: list[float], censored: int) -> None:
    """As if each had been the slowest; where that decides the percentile, it is not known."""
    found, worst = summarise(values, censored=censored), max(values) + 1
    known = sorted([*values, *[worst] * censored])
    for share, told in ((0.5, found.p50), (0.9, found.p90), (0.95, found.p95), (0.99, found.p99)):
        expected = at_share(known, share, len(known))
        assert told == (None if expected == worst else expected)
    assert (found.n, found.highest) == (len(known), max(values))


def test_nothing_has_no_percentiles() -> None:
    empty = summarise([])
    assert (empty.n, empty.mean, empty.p50, empty.highest) == (0, None, None, None)


@given(SOME)
def test_gaps_add_up_to_the_whole(times: list[float]) -> None:
    times.sort()
    assert sum(gaps(times)) == pytest.approx(times[-1] - times[0])
    assert min(gaps(times), default=0) >= 0


def test_ratios_are_taken_within_pairs() -> None:
    """A machine that slows down between pairs changes no ratio."""
    assert compare([100, 50, 10], [50, 25, 5]) == Comparison(3, 0.5, 0.5, 0.5)
    assert compare([10, 10, 10], [10, 9, 5]) == Comparison(3, 0.9, 0.5, 1.0)
    assert compare([10, 10], [10, 5]).median == 0.75


def test_a_base_of_nothing_compares_with_nothing() -> None:
    assert compare([0.0], [5.0]) == Comparison(0, None, None, None)


@given(st.lists(st.booleans(), max_size=50))
def test_the_last_work_ends_when_rest_begins(work: list[bool]) -> None:
    times, used = [0.0], [0.0]
    for busy in work:
        times.append(times[-1] + 0.01)
        used.append(used[-1] + (0.009 if busy else 0.0001))
    last = max((index for index, busy in enumerate(work, 1) if busy), default=None)
    assert quiet_from(times, used, level=0.1) == (None if last is None else times[last])
