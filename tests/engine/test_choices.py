"""Several answers to one prompt: computed once, drawn independently, each as if it were alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.engine.engine import Engine
from penstock.engine.model import Model
from penstock.engine.sequence import EngineSequence, Result, Sampled
from penstock.requests import Prompt
from tests.peers import CHUNK, WatchedEngine, alone, make_engine, make_prompt, sampled

PLENTY = 1 << 30


def asked(length: int = 2 * CHUNK + 5, *, n: int = 4, max_tokens: int = 10) -> Prompt:
    prompt = make_prompt(length, max_tokens=max_tokens, temperature=1.0, seed=3)
    return replace(prompt, n=n)


def run(engine: Engine, sequence: EngineSequence) -> list[Sampled]:
    """Admit and decode one choice to its end."""
    result: Result = engine.admit(sequence)
    while result is None:
        result = engine.prefill(sequence)
    made = [sampled(result)]
    while made[-1].end is None:
        made += map(sampled, engine.step([sequence]))
    engine.close(sequence)
    return made


def references(model: Model, prompt: Prompt) -> list[list[Sampled]]:
    """Each choice with its prompt computed for itself."""
    return [alone(make_engine(model), prompt, choice) for choice in range(prompt.n)]


@pytest.mark.parametrize("length", [1, 5, CHUNK, 2 * CHUNK + 5])
def test_the_prompt_is_computed_once_and_every_choice_is_its_own(model: Model, length: int) -> None:
    prompt = asked(length)
    expected = references(model, prompt)
    assert len({tuple(made) for made in expected}) == prompt.n
    engine = WatchedEngine(model, parked_kv_bytes=PLENTY)
    choices = engine.open_choices(prompt)
    assert [run(engine, sequence) for sequence in choices] == expected
    chunks = -(-length // CHUNK)
    steps = sum(len(made) - 1 for made in expected)
    assert len(engine.turns) == chunks + steps
    assert engine.parked.bytes == 0


def test_choices_that_find_no_copy_compute_the_prompt_again(model: Model) -> None:
    prompt = asked()
    engine = make_engine(model, parked_kv_bytes=0)
    choices = engine.open_choices(prompt)
    assert [run(engine, sequence) for sequence in choices] == references(model, prompt)


def test_a_choice_that_was_evicted_without_a_copy_goes_on_from_the_shared_prompt(
    model: Model,
) -> None:
    prompt = asked(n=2)
    expected = references(model, prompt)
    engine = WatchedEngine(model, parked_kv_bytes=PLENTY)
    first, second = engine.open_choices(prompt)
    assert engine.admit(first) is None
    while not first.prefilled:
        engine.prefill(first)
    made = [sampled(engine.admit(second))]
    made += map(sampled, engine.step([second]))
    engine.evict(second)
    engine.parked.take(second.key)
    before = len(engine.turns)
    assert engine.admit(second) is None
    assert second.prefilled
    assert engine.step([second]) == [None]
    while made[-1].end is None:
        made += map(sampled, engine.step([second]))
    assert made == expected[1]
    assert all(len(turn) == 1 for turn in engine.turns[before:])


def test_the_shared_prompt_is_kept_until_the_last_choice_is_closed(model: Model) -> None:
    engine = make_engine(model, parked_kv_bytes=PLENTY)
    choices = engine.open_choices(asked(n=3))
    engine.admit(choices[0])
    while not choices[0].prefilled:
        engine.prefill(choices[0])
    for sequence in choices:
        assert engine.parked.bytes > 0
        engine.close(sequence)
    assert engine.parked.bytes == 0


def test_one_answer_keeps_no_copy_of_its_prompt(model: Model) -> None:
    engine = make_engine(model, parked_kv_bytes=PLENTY)
    sequence = engine.open(asked(n=1))
    engine.admit(sequence)
    while not sequence.prefilled:
        engine.prefill(sequence)
    assert engine.parked.bytes == 0
