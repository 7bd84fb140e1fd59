"""Philox 4x32-10 against the known answers of its authors' Random123 library."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.engine.philox import philox, uniforms

KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text: str) -> np.ndarray:
    return np.array([[int(word, 16)] for word in text.split()], np.uint64)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    np.testing.assert_array_equal(philox(words(counter), words(key)), words(expected))


def test_columns_do_not_touch_each_other() -> None:
    counter = np.concatenate([words(case[0]) for case in KNOWN], axis=1)
    key = np.concatenate([words(case[1]) for case in KNOWN], axis=1)
    expected = np.concatenate([words(case[2]) for case in KNOWN], axis=1)
    np.testing.assert_array_equal(philox(counter, key), expected)


def test_uniforms_are_uniform_and_below_one() -> None:
    n = 100_000
    drawn = uniforms(
        np.full(n, 7, np.uint64), np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64)
    )
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts, _ = np.histogram(drawn, bins=20, range=(0, 1))
    # Twenty bins of 5,000: five standard deviations are 345.
    assert abs(counts - n / 20).max() < 345


def test_each_of_seed_choice_and_index_changes_the_draw() -> None:
    def one(seed: int, choice: int, index: int) -> float:
        return float(uniforms(*(np.array([word], np.uint64) for word in (seed, choice, index)))[0])

    drawn = {one(s, c, i) for s in (0, 1, 2**63) for c in (0, 1) for i in (0, 1, 2**33)}
    assert len(drawn) == 18
