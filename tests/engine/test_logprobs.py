"""Log probabilities: against a softmax in double precision, and the same in every batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.engine.engine import Engine
from penstock.engine.logprobs import score
from penstock.engine.model import Model
from penstock.engine.sequence import Sampled
from penstock.requests import Prompt, Sampling
from tests.peers import alone, make_engine, make_prompt, sampled, start


@pytest.mark.parametrize("vocab", [30, 4096, 40_000])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_scores_are_those_of_a_softmax_likeliest_first(vocab: int, count: int) -> None:
    row = (5 * np.random.default_rng(vocab).standard_normal(vocab)).astype(np.float32)
    exact = row.astype(np.float64) - np.log(np.exp(row.astype(np.float64)).sum())
    logprob, top = score(row, 7, count)
    assert logprob == pytest.approx(exact[7], abs=1e-5)
    assert [id_ for id_, _ in top] == np.argsort(-exact, kind="stable")[:count].tolist()
    assert [value for _, value in top] == pytest.approx(exact[[id_ for id_, _ in top]], abs=1e-5)


@given(
    logits=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=40),
    count=st.integers(0, 20),
)
def test_probabilities_are_at_most_one_each_and_together(logits: list[float], count: int) -> None:
    row = np.array(logits, np.float32)
    logprob, top = score(row, int(row.argmax()), count)
    assert logprob is not None
    assert len(top) == min(count, len(logits))
    assert all(value <= logprob <= 0 for _, value in top)
    assert sum(np.exp(value) for _, value in top) <= 1 + 1e-5


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 20]),
    top_p=st.sampled_from([1.0, 0.9]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    logit_bias=st.sampled_from([(), ((100, 4.0), (4095, -3.0))]),
)
plain = st.builds(
    make_prompt,
    st.integers(1, 20),
    max_tokens=st.integers(1, 8),
    seed=st.integers(0, 2**64 - 1),
    ignore_eos=st.booleans(),
)
prompts = st.builds(
    lambda prompt, sampling, logprobs: replace(prompt, sampling=sampling, logprobs=logprobs),
    plain,
    samplings,
    st.sampled_from([None, 0, 1, 5]),
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(chosen=st.lists(prompts, min_size=1, max_size=8))
def test_tokens_and_scores_are_bit_identical_alone_and_together(
    model: Model, chosen: list[Prompt]
) -> None:
    engine = make_engine(model)
    expected = [alone(engine, prompt) for prompt in chosen]
    made = together(engine, chosen)
    assert made == expected
    for prompt, tokens in zip(chosen, made, strict=True):
        asked = prompt.logprobs
        assert all((token.logprob is None) == (asked is None) for token in tokens)
        assert {len(token.top) for token in tokens} == {asked or 0}


def together(engine: Engine, prompts: list[Prompt]) -> list[list[Sampled]]:
    started = [start(engine, prompt) for prompt in prompts]
    sequences = [sequence for sequence, _ in started]
    made = [[first] for _, first in started]
    while running := [i for i, tokens in enumerate(made) if tokens[-1].end is None]:
        results = engine.step([sequences[i] for i in running])
        for i, result in zip(running, results, strict=True):
            made[i].append(sampled(result))
    for sequence in sequences:
        engine.close(sequence)
    return made


def test_a_penalty_sees_the_tokens_of_prompt_and_answer(model: Model) -> None:
    """A greedy answer that may not repeat anything: a penalty of 10 bans what has been."""
    prompt = replace(
        make_prompt(10, max_tokens=40),
        sampling=Sampling(temperature=0.0, presence_penalty=2.0, logit_bias=((7, -100.0),)),
    )
    free = alone(make_engine(model), make_prompt(10, max_tokens=40))
    bound = alone(make_engine(model), prompt)
    assert len({token.token_id for token in bound}) >= len({token.token_id for token in free})
    banned = tuple((token_id, -100.0) for token_id in {token.token_id for token in free})
    other = replace(prompt, sampling=Sampling(temperature=0.0, logit_bias=banned))
    assert not {token.token_id for token in alone(make_engine(model), other)} & dict(banned).keys()
