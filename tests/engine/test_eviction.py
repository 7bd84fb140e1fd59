"""Eviction and prefix reuse change when a token is computed, and never which."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.engine.engine import Engine
from penstock.engine.interrupt import Interrupt
from penstock.engine.model import Model
from penstock.engine.parked import ParkedKV
from penstock.engine.prefix import PrefixCache, chain
from penstock.engine.sequence import EngineSequence, Sampled
from penstock.engine.slots import Copy
from penstock.requests import Caller, Prompt
from tests.peers import CHUNK, alone, make_engine, make_prompt, sampled, start


def finish(engine: Engine, sequence: EngineSequence) -> list[Sampled]:
    """Compute on until the last token; rebuilding gives no tokens of its own."""
    made: list[Sampled] = []
    while not sequence.prefilled:
        assert engine.prefill(sequence) is None
    while not made or made[-1].end is None:
        made += [sampled(result) for result in engine.step([sequence]) if result is not None]
    engine.close(sequence)
    return made


@pytest.mark.parametrize("budget", [1 << 30, 0], ids=["copied", "rebuilt"])
@pytest.mark.parametrize("length", [3, CHUNK, 2 * CHUNK + 5])
def test_an_evicted_sequence_goes_on_with_the_same_tokens(
    model: Model, budget: int, length: int
) -> None:
    prompt = make_prompt(length, max_tokens=20, temperature=1.0, seed=length)
    expected = alone(make_engine(model), prompt)
    engine = make_engine(model, slots=1, parked_kv_bytes=budget)
    sequence, first = start(engine, prompt)
    made = [first]
    for _ in range(6):
        made += map(sampled, engine.step([sequence]))
    engine.evict(sequence)
    alone(engine, make_prompt(30, seed=99))
    engine.admit(sequence)
    assert sequence.prefilled == (budget > 0)
    made += finish(engine, sequence)
    assert made == expected
    assert repr(engine) == "<Engine <Slots 0 of 1 in use>>"
    assert engine.parked.bytes == 0


def test_one_evicted_while_it_is_being_rebuilt_still_goes_on(model: Model) -> None:
    prompt = make_prompt(2 * CHUNK, max_tokens=12)
    expected = alone(make_engine(model), prompt)
    engine = make_engine(model, slots=1, parked_kv_bytes=0)
    sequence, first = start(engine, prompt)
    made = [first, *(sampled(engine.step([sequence])[0]) for _ in range(5))]
    for replayed in (0, 2, 4):
        engine.evict(sequence)
        engine.admit(sequence)
        while not sequence.prefilled:
            engine.prefill(sequence)
        assert [engine.step([sequence]) for _ in range(replayed)] == [[None]] * replayed
    assert made + finish(engine, sequence) == expected


def test_rebuilding_shares_its_steps_with_others(model: Model) -> None:
    prompts = [make_prompt(5, seed=1, max_tokens=15), make_prompt(9, seed=2, max_tokens=15)]
    expected = [alone(make_engine(model), prompt) for prompt in prompts]
    engine = make_engine(model, slots=2)
    (rebuilt, one), (other, two) = (start(engine, prompt) for prompt in prompts)
    made = [[one], [two]]
    for index, result in enumerate(engine.step([rebuilt, other])):
        made[index].append(sampled(result))
    engine.evict(rebuilt)
    engine.admit(rebuilt)
    while not rebuilt.prefilled:
        engine.prefill(rebuilt)
    while any(tokens[-1].end is None for tokens in made):
        running = [(i, s) for i, s in enumerate((rebuilt, other)) if made[i][-1].end is None]
        for (index, _), result in zip(running, engine.step([s for _, s in running]), strict=True):
            made[index] += [] if result is None else [sampled(result)]
    assert made == expected


def copy_of(positions: int) -> Copy:
    return Copy((np.zeros((2, positions, 4), np.float32),))


def test_the_oldest_copies_are_given_up_for_the_budget() -> None:
    parked = ParkedKV(3 * copy_of(10).bytes)
    for key in range(4):
        parked.put(key, copy_of(10))
    assert (parked.dropped, parked.bytes) == (1, 3 * copy_of(10).bytes)
    assert parked.take(0) is None
    assert parked.take(2) is not None
    assert parked.take(1) is not None
    parked.put(9, copy_of(31))
    assert parked.take(9) is None, "larger than the budget"
    assert repr(parked) == f"<ParkedKV 1 copies, {copy_of(10).bytes} bytes>"
    assert parked.take(3) is not None, "and nobody else's copy goes for it"
    assert (parked.dropped, parked.bytes) == (2, 0)


@pytest.mark.parametrize("suffix", [1, CHUNK - 1, CHUNK, CHUNK + 3])
def test_a_shared_beginning_is_copied_and_the_tokens_are_the_same(
    model: Model, suffix: int
) -> None:
    shared = make_prompt(4 * CHUNK).token_ids
    first, second = (
        Prompt(
            (*shared, *make_prompt(suffix + 1, seed=seed).token_ids[1:]),
            8,
            make_prompt().sampling,
            0,
            True,
        )
        for seed in (1, 2)
    )
    expected = [alone(make_engine(model), prompt) for prompt in (first, second)]
    engine = make_engine(model, prefix_cache_bytes=1 << 30)
    assert alone(engine, first) == expected[0]
    sequence = engine.open(second)
    engine.admit(sequence)
    assert sequence.cached == 4 * CHUNK
    engine.close(sequence)
    assert alone(engine, second) == expected[1]
    assert engine.prefixes.hits == 8


def test_a_prompt_known_to_its_end_still_computes_its_last_chunk(model: Model) -> None:
    prompt = make_prompt(3 * CHUNK, max_tokens=4)
    engine = make_engine(model, prefix_cache_bytes=1 << 30)
    assert alone(engine, prompt) == alone(engine, prompt)
    sequence = engine.open(prompt)
    engine.admit(sequence)
    assert sequence.cached == 2 * CHUNK


def test_scopes_share_nothing(model: Model) -> None:
    ids = make_prompt(3 * CHUNK).token_ids
    one, other = (
        Prompt(ids, 2, make_prompt().sampling, 0, True, Caller(scope=scope)) for scope in "ab"
    )
    engine = make_engine(model, prefix_cache_bytes=1 << 30)
    alone(engine, one)
    sequence = engine.open(other)
    engine.admit(sequence)
    assert sequence.cached == 0
    digests = [chain(scope, np.array(ids, np.int64), CHUNK) for scope in "ab"]
    assert len(digests[0]) == 3
    assert not set(digests[0]) & set(digests[1])


def test_the_least_recently_used_chunk_goes_first_and_a_budget_of_zero_keeps_none() -> None:
    cache = PrefixCache(2 * copy_of(8).bytes)
    for digest in (b"a", b"b"):
        cache.put(digest, copy_of(8))
    assert len(cache.match([b"a"])) == 1
    cache.put(b"c", copy_of(8))
    assert (len(cache.match([b"a"])), cache.match([b"b"])) == (1, [])
    assert cache.bytes == 2 * copy_of(8).bytes
    assert not PrefixCache(0).wants(b"x")


@pytest.mark.slow
def test_an_interrupted_chunk_leaves_the_sequence_and_the_session_as_they_were(
    model: Model,
) -> None:
    engine = make_engine(model)
    prompt, other = make_prompt(3 * CHUNK, seed=4), make_prompt(9, seed=5, max_tokens=2)
    expected = [alone(make_engine(model), each) for each in (prompt, other)]
    sequence = engine.open(prompt)
    engine.admit(sequence)
    engine.prefill(sequence)
    for _ in range(1000):
        interrupt = Interrupt()
        interrupt.now()
        assert engine.prefill(sequence, interrupt) is None
        assert sequence.cached == engine.slots.lengths[engine.slots.row(sequence.key)] == CHUNK
        assert alone(engine, other) == expected[1]
    engine.close(sequence)
    assert alone(engine, prompt) == expected[0]
