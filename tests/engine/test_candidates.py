"""The largest of many, found without sorting, are those that sorting everything finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.candidates import holders, largest, ranked

SIZES = [1, 5, 97, 511, 512, 513, 1000, 4096, 33_000]


def some_values(size: int, levels: int, seed: int) -> np.ndarray:
    """With few levels most values are equal, so that order among equals is tried too."""
    numbers = np.random.default_rng(seed)
    values = numbers.standard_normal(size) if levels == 0 else numbers.integers(0, levels, size)
    return values.astype(np.float32)


def by_sorting(values: np.ndarray) -> list[int]:
    order: list[int] = np.argsort(-values, kind="stable").tolist()
    return order


@settings(max_examples=200)
@given(
    size=st.sampled_from(SIZES),
    levels=st.sampled_from([0, 1, 2, 50]),
    seed=st.integers(0, 9),
    count=st.integers(1, 40_000),
)
def test_the_largest_are_those_that_sorting_finds(
    size: int, levels: int, seed: int, count: int
) -> None:
    values = some_values(size, levels, seed)
    count = min(count, size)
    assert largest(values, count).tolist() == by_sorting(values)[:count]


@pytest.mark.parametrize("count", [1, 20, 63, 64, 65, 300])
def test_minus_infinity_and_signs_are_in_order(count: int) -> None:
    values = some_values(4096, 0, 1)
    values[::3] = -np.inf
    values[5] = np.inf
    assert largest(values, count).tolist() == by_sorting(values)[:count]


@settings(max_examples=200)
@given(
    size=st.sampled_from(SIZES),
    spread=st.sampled_from([0.0, 0.5, 4.0, 30.0]),
    share=st.sampled_from([1e-6, 0.1, 0.5, 0.95, 0.999, 1 - 1e-7]),
    seed=st.integers(0, 9),
)
def test_the_holders_of_a_share_begin_as_sorting_everything_begins(
    size: int, spread: float, share: float, seed: int
) -> None:
    logits = spread * some_values(size, 0, seed)
    weights = np.exp(logits - logits.max())
    found = holders(weights, float(weights.sum(dtype=np.float64)), share).tolist()
    assert found == by_sorting(weights)[: len(found)]
    sums = weights[by_sorting(weights)].cumsum(dtype=np.float64)
    assert sums[len(found) - 1] >= share * sums[-1] * (1 - 1e-6)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_ranking_is_by_value_then_by_id(numbers: list[float]) -> None:
    # -0.0 equals 0.0 and has other bits; either may come first.
    values = np.array(numbers, np.float32) + np.float32(0)
    assert ranked(values, np.arange(len(values))).tolist() == by_sorting(values)
