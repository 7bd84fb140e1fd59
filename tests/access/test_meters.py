"""Meters never grant more than their limit, whoever asks when, and say when there is more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.access.meters import DAY_S, Bucket, DayCount, Meter

NOON = 20_000 * DAY_S + DAY_S // 2


def test_a_bucket_is_emptied_at_once_and_fills_steadily() -> None:
    bucket = Bucket(60)
    assert (bucket.lease(NOON, 50), bucket.wait_s(NOON, 10)) == (50, 0)
    assert (bucket.lease(NOON, 50), bucket.wait_s(NOON, 1)) == (10, 1)
    assert (bucket.lease(NOON, 1), bucket.wait_s(NOON, 20)) == (0, 20)
    assert (bucket.lease(NOON + 0.5, 1), bucket.wait_s(NOON + 0.5, 1)) == (0, 0.5)
    assert bucket.lease(NOON + 1, 1) == 1
    assert bucket.used(NOON + 1) == 60
    assert (bucket.lease(NOON + 31, 100), bucket.wait_s(NOON + 31, 1)) == (30, 1)
    assert bucket.lease(NOON + 9999, 60) == 60


def test_a_day_ends_at_midnight() -> None:
    count = DayCount(100)
    assert (count.lease(NOON, 70), count.wait_s(NOON, 30)) == (70, 0)
    assert (count.lease(NOON, 70), count.wait_s(NOON, 1)) == (30, DAY_S / 2)
    late = NOON + DAY_S / 2 - 10
    assert (count.lease(late, 1), count.wait_s(late, 1)) == (0, 10)
    assert count.used(NOON + DAY_S / 2 - 1) == 100
    assert count.used(NOON + DAY_S / 2) == 0
    assert count.lease(NOON + DAY_S / 2, 1) == 1


def test_what_was_not_used_can_be_used_again() -> None:
    for meter in (Bucket(100), DayCount(100)):
        meter.lease(NOON, 100)
        meter.refund(NOON, 40)
        assert meter.used(NOON) == 60
        assert meter.lease(NOON, 100) == 40


def test_a_refund_over_midnight_is_lost_and_makes_no_credit() -> None:
    count = DayCount(100)
    count.lease(NOON, 50)
    count.refund(NOON + DAY_S, 50)
    assert count.lease(NOON + DAY_S, 1000) == 100


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    for meter in (Bucket(10), DayCount(10)):
        assert meter.lease(NOON, 10) == 10
        assert meter.lease(NOON - 5 * DAY_S, 10) == 0
        assert meter.lease(NOON, 10) == 0


@pytest.mark.parametrize("kind", [Bucket, DayCount])
@given(
    limit=st.integers(1, 1000),
    leases=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 300)), max_size=30),
)
def test_no_more_is_granted_than_the_limit_allows(
    kind: type[Bucket | DayCount], limit: int, leases: list[tuple[float, int]]
) -> None:
    meter: Meter = kind(limit)
    now_s, granted = float(NOON), 0
    for pause_s, wanted in leases:
        now_s += pause_s
        free = meter.free(now_s)
        tokens = meter.lease(now_s, wanted)
        assert tokens == min(wanted, free)
        if meter.free(now_s):
            assert meter.wait_s(now_s, 1) < 1e-4
        else:
            assert meter.wait_s(now_s, 1) > 0
        granted += tokens
    refilled = limit * (now_s - NOON) / 60 if kind is Bucket else 0
    assert granted <= limit + refilled + 1e-6


@given(limit=st.integers(1, 1000), seed=st.integers(0, 10))
def test_after_the_wait_that_was_told_there_is_one_more(limit: int, seed: int) -> None:
    for kind in (Bucket, DayCount):
        for wanted in (1, limit):
            meter: Meter = kind(limit)
            assert meter.lease(NOON + seed, limit + 1) == limit
            ready_s = NOON + seed + meter.wait_s(NOON + seed, wanted)
            assert meter.free(ready_s - 1e-4) < wanted
            assert meter.free(ready_s + 1e-4) >= wanted
