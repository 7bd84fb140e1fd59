"""Bias and penalties, against their definitions written out token by token."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.adjust import adjust
from penstock.requests import Sampling

VOCAB = 12
LOGITS = np.linspace(-3, 3, VOCAB).astype(np.float32)

ids = st.integers(0, VOCAB - 1)
samplings = st.builds(
    Sampling,
    repetition_penalty=st.sampled_from([1.0, 0.5, 1.7]),
    frequency_penalty=st.sampled_from([0.0, -2.0, 0.3]),
    presence_penalty=st.sampled_from([0.0, 1.1]),
    logit_bias=st.dictionaries(ids, st.floats(-100, 100), max_size=4).map(
        lambda bias: tuple(bias.items())
    ),
)


def by_definition(sampling: Sampling, prompt: list[int], answer: list[int]) -> list[float]:
    logits = [float(logit) for logit in LOGITS]
    for token_id, amount in sampling.logit_bias:
        logits[token_id] += amount
    for token_id in {*prompt, *answer}:
        logit, penalty = logits[token_id], sampling.repetition_penalty
        logits[token_id] = logit / penalty if logit > 0 else logit * penalty
    for token_id, count in Counter(answer).items():
        logits[token_id] -= count * sampling.frequency_penalty + sampling.presence_penalty
    return logits


@settings(max_examples=300)
@given(sampling=samplings, prompt=st.lists(ids, max_size=9), answer=st.lists(ids, max_size=9))
def test_each_token_is_changed_as_defined(
    sampling: Sampling, prompt: list[int], answer: list[int]
) -> None:
    kept = LOGITS.copy()
    found = adjust(LOGITS, sampling, np.array(prompt, np.int64), answer)
    np.testing.assert_allclose(found, by_definition(sampling, prompt, answer), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(LOGITS, kept)


def test_only_what_was_generated_counts_for_frequency_and_presence() -> None:
    sampling = Sampling(frequency_penalty=1.0, presence_penalty=0.5)
    changed = adjust(LOGITS, sampling, [1, 1, 2], [3, 3, 4]) - LOGITS
    np.testing.assert_allclose(changed[1:5], [0, 0, -2.5, -1.5], atol=1e-6)


def test_a_token_that_is_repeated_is_penalised_once() -> None:
    sampling = Sampling(repetition_penalty=2.0)
    np.testing.assert_array_equal(
        adjust(LOGITS, sampling, [1, 1, 10, 10], [10, 1]), adjust(LOGITS, sampling, [1, 10], [])
    )


def test_a_bias_of_100_forces_a_token_and_minus_100_bans_one() -> None:
    assert adjust(LOGITS, Sampling(logit_bias=((2, 100.0),)), [], []).argmax() == 2
    assert adjust(LOGITS, Sampling(logit_bias=((VOCAB - 1, -100.0),)), [], []).argmax() == VOCAB - 2
