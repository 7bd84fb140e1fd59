"""Sampling: the right distribution, and the same token in every batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.sampling import Draw, sample
from penstock.requests import Sampling

VOCAB = 97


CUTS = [
    (0, 1.0, 0.0),
    (5, 1.0, 0.0),
    (0, 0.9, 0.0),
    (0, 1.0, 0.02),
    (40, 0.8, 0.0),
    (10, 0.95, 0.1),
    (0, 0.99, 0.01),
    (10**6, 1.0, 0.3),
]


def random_logits(rows: int, seed: int, vocab: int = VOCAB) -> np.ndarray:
    return (4 * np.random.default_rng(seed).standard_normal((rows, vocab))).astype(np.float32)


def frequencies(logits: np.ndarray, sampling: Sampling, draws: int = 20_000) -> np.ndarray:
    rows = np.broadcast_to(logits, (draws, len(logits)))
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


def slow_reference(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Probabilities by sorting everything, in double precision."""
    order = np.argsort(-logits, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = np.exp((logits[order].astype(np.float64) - logits.max()) / sampling.temperature)
    reached = int(np.searchsorted(weights.cumsum(), sampling.top_p * weights.sum()))
    weights = weights[: reached + 1]
    weights[weights < sampling.min_p * weights[0]] = 0
    probabilities = np.zeros(len(logits))
    probabilities[order[: len(weights)]] = weights / weights.sum()
    return probabilities


@pytest.mark.parametrize("vocab", [11, 97, 4096, 40_000])
@pytest.mark.parametrize("temperature", [0.6, 1.3])
@pytest.mark.parametrize(("top_k", "top_p", "min_p"), CUTS)
def test_frequencies_follow_a_slow_reference(
    vocab: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = random_logits(1, 8, vocab)[0]
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    expected = slow_reference(logits, sampling)
    draws = 1500 if vocab > 4096 else 6000
    found = frequencies(logits, sampling, draws)
    # Five standard errors and a few for the rarest; what may not be drawn is not drawn once.
    allowed = 5 * np.sqrt(expected * (1 - expected) / draws) + 4 / draws
    assert (abs(found - expected) <= np.where(expected > 0, allowed, 0)).all()


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


@pytest.mark.parametrize("vocab", [97, 4096])
def test_a_broken_row_does_not_fail_the_others(vocab: int) -> None:
    logits = random_logits(len(CUTS) + 1, 4, vocab)
    logits[:-1] = np.nan
    draws = [Draw(Sampling(top_k=k, top_p=p, min_p=m), 1, 0) for k, p, m in CUTS]
    with np.errstate(invalid="ignore"):
        tokens = sample(logits, [*draws, Draw(Sampling(), 1, 0)])
    assert tokens[-1] == sample(logits[-1:], [Draw(Sampling(), 1, 0)])[0]
    assert all(0 <= token < vocab for token in tokens)


def test_logits_are_left_as_they_were() -> None:
    logits = random_logits(3, 1)
    kept = logits.copy()
    penalties = Sampling(logit_bias=((3, 5.0),), repetition_penalty=2.0, presence_penalty=1.0)
    sample(logits, [Draw(s, 1, 0, prompt=(1, 2), answer=(4,)) for s in (Sampling(), penalties)])
    np.testing.assert_array_equal(logits, kept)


def test_a_uniform_of_almost_one_stays_within_the_vocabulary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last tokens have no weight; rounding must not reach them."""
    logits = random_logits(1, 3, 4096)
    logits[0, 2000:] = -np.inf
    for cut in CUTS:
        draw = Draw(Sampling(top_k=cut[0], top_p=cut[1], min_p=cut[2]), 1, 0)
        with monkeypatch.context() as patch:
            patch.setattr(Draw, "uniform", lambda _: 1 - 2.0**-53)
            [token] = sample(logits, [draw])
        assert token < 2000


ids = st.integers(0, VOCAB - 1)
parameters = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, VOCAB, 2 * VOCAB]),
    top_p=st.sampled_from([1.0, 0.95, 0.3]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 0.8, 1.3]),
    frequency_penalty=st.sampled_from([0.0, -0.5, 1.5]),
    presence_penalty=st.sampled_from([0.0, 0.7]),
    logit_bias=st.dictionaries(ids, st.floats(-100, 100), max_size=4).map(
        lambda bias: tuple(bias.items())
    ),
)
draws = st.builds(
    Draw,
    parameters,
    seed=st.integers(0, 2**64 - 1),
    index=st.integers(0, 5000),
    prompt=st.lists(ids, max_size=20),
    answer=st.lists(ids, max_size=20),
)


@pytest.mark.parametrize("vocab", [pytest.param(VOCAB, marks=pytest.mark.heavy), 4096])
@settings(max_examples=200)
@given(chosen=st.lists(draws, min_size=1, max_size=16), seed=st.integers(0, 100))
def test_a_row_gives_the_same_token_alone_and_in_any_batch(
    vocab: int, chosen: list[Draw], seed: int
) -> None:
    logits = random_logits(len(chosen), seed, vocab)
    alone = [sample(logits[row : row + 1], [draw])[0] for row, draw in enumerate(chosen)]
    assert sample(logits, chosen) == alone


@settings(max_examples=200)
@given(draw=draws, seed=st.integers(0, 100))
def test_greedy_takes_the_largest_after_bias_and_penalties(draw: Draw, seed: int) -> None:
    logits = random_logits(1, seed)
    greedy = replace(draw, sampling=replace(draw.sampling, temperature=0.0))
    assert sample(logits, [greedy]) == [int(draw.adjust(logits[0]).argmax())]
