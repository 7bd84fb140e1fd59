"""Sampling: the right distribution, and the same token in every batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.sampling import Draw, sample
from penstock.requests import Sampling

VOCAB = 97


def random_logits(rows: int, seed: int) -> np.ndarray:
    return (4 * np.random.default_rng(seed).standard_normal((rows, VOCAB))).astype(np.float32)


def frequencies(logits: np.ndarray, sampling: Sampling, draws: int = 20_000) -> np.ndarray:
    rows = np.repeat(logits[None], draws, axis=0)
    tokens = sample(rows, [Draw(sampling, seed=3, index=index) for index in range(draws)])
    return np.bincount(tokens, minlength=len(logits)) / draws


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def test_temperature_zero_takes_the_largest_whatever_the_seed() -> None:
    logits = random_logits(8, 0)
    for seed in range(5):
        draws = [Draw(Sampling(temperature=0), seed, index) for index in range(8)]
        assert sample(logits, draws) == logits.argmax(axis=1).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    logits = random_logits(1, 1)[0]
    found = frequencies(logits, Sampling(temperature=temperature))
    # 20,000 draws: a standard error is at most 0.0035.
    assert abs(found - softmax(logits / temperature)).max() < 0.018


def test_top_k_keeps_the_k_likeliest_and_their_proportions() -> None:
    logits = random_logits(1, 2)[0]
    found = frequencies(logits, Sampling(top_k=3))
    likeliest = np.argsort(logits)[-3:]
    assert set(np.flatnonzero(found)) == set(likeliest)
    assert abs(found[likeliest] - softmax(logits[likeliest])).max() < 0.018


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float) -> None:
    logits = random_logits(1, 5)[0]
    order = np.argsort(-logits)
    sums = softmax(logits)[order].cumsum()
    kept = set(order[: int(np.searchsorted(sums, top_p)) + 1])
    found = set(np.flatnonzero(frequencies(logits, Sampling(top_p=top_p))))
    assert found <= kept
    assert int(logits.argmax()) in found


def test_a_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    logits = random_logits(4, 6)
    draws = [Draw(Sampling(temperature=1e-30), 1, index) for index in range(4)]
    assert sample(logits, draws) == logits.argmax(axis=1).tolist()


parameters = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, VOCAB, 2 * VOCAB]),
    top_p=st.sampled_from([1.0, 0.95, 0.3]),
)
draws = st.builds(Draw, parameters, seed=st.integers(0, 2**64 - 1), index=st.integers(0, 5000))


@settings(max_examples=200, deadline=None)
@given(chosen=st.lists(draws, min_size=1, max_size=16), seed=st.integers(0, 100))
def test_a_row_gives_the_same_token_alone_and_in_any_batch(chosen: list[Draw], seed: int) -> None:
    logits = random_logits(len(chosen), seed)
    alone = [sample(logits[row : row + 1], [draw])[0] for row, draw in enumerate(chosen)]
    assert sample(logits, chosen) == alone
