"""The engine: a sequence's tokens depend on its request alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.engine.engine import Engine
from penstock.engine.model import Model
from penstock.engine.sequence import EngineSequence, Sampled
from penstock.requests import Prompt
from tests.peers import CHUNK, alone, make_engine, make_prompt, sampled, start


@pytest.fixture(scope="module")
def engine(model: Model) -> Engine:
    return make_engine(model)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 7, 8, 11, 16])
def test_logits_of_a_row_are_bit_identical_in_every_batch_size(engine: Engine, batch: int) -> None:
    """Mixed lengths, one row watched: not one bit of its logits may depend on its neighbours."""
    watched = make_prompt(40, seed=1)
    reference = _logits_after_prefill(engine, [watched])
    others = [make_prompt(3 + 9 * i, seed=100 + i) for i in range(batch - 1)]
    together = _logits_after_prefill(engine, [watched, *others])
    assert together.shape == reference.shape == (4096,)
    np.testing.assert_array_equal(together, reference)


def _logits_after_prefill(engine: Engine, prompts: list[Prompt]) -> np.ndarray:
    """Logits `[vocab]` of the first prompt after one step of all."""
    sequences = [start(engine, prompt)[0] for prompt in prompts]
    engine.step(sequences)
    row = engine.slots.row(sequences[0].key)
    logits: np.ndarray = engine._batch._logits[row].copy()
    for sequence in sequences:
        engine.close(sequence)
    return logits


prompts = st.builds(
    make_prompt,
    st.integers(1, 3 * CHUNK),
    max_tokens=st.integers(1, 10),
    seed=st.integers(0, 2**64 - 1),
    temperature=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 40]),
    top_p=st.sampled_from([1.0, 0.9]),
    ignore_eos=st.booleans(),
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data(), chosen=st.lists(prompts, min_size=1, max_size=16))
def test_every_stream_equals_its_unbatched_reference_in_any_mix(
    model: Model, data: st.DataObject, chosen: list[Prompt]
) -> None:
    """Arrivals, parking and endings in any order: the tokens stay those of the lone run."""
    engine = make_engine(model)
    expected = [alone(engine, prompt) for prompt in chosen]
    arriving = list(enumerate(chosen))
    running: dict[int, EngineSequence] = {}
    made: dict[int, list[Sampled]] = {}
    while arriving or running:
        if arriving and (not running or data.draw(st.booleans())):
            index, prompt = arriving.pop()
            running[index], first = start(engine, prompt)
            made[index] = [first]
        else:
            wanting = data.draw(st.sets(st.sampled_from(sorted(running)), min_size=1))
            results = engine.step([running[index] for index in wanting])
            for index, result in zip(wanting, results, strict=True):
                made[index].append(sampled(result))
        for index in [index for index in running if made[index][-1].end is not None]:
            engine.close(running.pop(index))
    assert [made[index] for index in range(len(chosen))] == expected


def test_prompt_chunks_end_at_multiples_of_the_chunk_size(engine: Engine) -> None:
    sequence = engine.open(make_prompt(2 * CHUNK + 3))
    engine.admit(sequence)
    cached = []
    while engine.prefill(sequence) is None:
        cached.append(sequence.cached)
    engine.close(sequence)
    assert cached == [CHUNK, 2 * CHUNK]


def test_generation_ends_at_max_tokens_with_length(engine: Engine) -> None:
    made = alone(engine, make_prompt(max_tokens=3))
    assert [token.end for token in made] == [None, None, "length"]


def test_generation_ends_at_eos_with_stop_unless_it_is_ignored(
    engine: Engine, model: Model
) -> None:
    """Some seed within fifty draws an EOS early at a high temperature."""
    for seed in range(50):
        made = alone(
            engine, make_prompt(seed=seed, max_tokens=100, temperature=2.0, ignore_eos=False)
        )
        if made[-1].end == "stop":
            break
    assert made[-1].token_id in model.spec.eos_ids
    same = alone(engine, make_prompt(seed=seed, max_tokens=100, temperature=2.0, ignore_eos=True))
    assert [token.token_id for token in same[: len(made)]] == [token.token_id for token in made]
    assert len(same) == 100


def test_admit_refuses_when_no_slot_is_free(model: Model) -> None:
    engine = make_engine(model, slots=1)
    engine.admit(engine.open(make_prompt()))
    with pytest.raises(ValueError, match="no slot is free"):
        engine.admit(engine.open(make_prompt()))
