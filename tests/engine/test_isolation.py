"""One sequence's misfortune is its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from penstock.engine.batch import Logits, make_batch
from penstock.engine.engine import Engine
from penstock.engine.in_place import InPlaceBatch
from penstock.engine.model import Model
from penstock.engine.sequence import BrokenRowError
from penstock.engine.slots import Slots
from tests.engine.layouts import CASES, Case, opened
from tests.peers import CHUNK, MAX_LEN, alone, make_engine, make_prompt, sampled, start

POISON = 4242 % 4096


class PoisonedBatch(InPlaceBatch):
    """A model that raises, or gives NaN, where it is fed a certain token."""

    how = "raise"

    def step(self, token_ids: list[int]) -> Logits:  # type: ignore[override]
        if self.how == "raise" and POISON in token_ids:
            raise RuntimeError("poisoned")
        logits = super().step(token_ids)
        if self.how == "nan":
            logits[[token == POISON for token in token_ids]] = np.nan
        return logits


def poisoned(model: Model, how: str) -> Engine:
    engine = Engine(model, slots=4, max_len=MAX_LEN, prefill_chunk=CHUNK)
    batch = PoisonedBatch(model, engine.slots)
    batch.how = how
    engine._batch = batch
    return engine


@pytest.mark.parametrize(("how", "error"), [("raise", RuntimeError), ("nan", BrokenRowError)])
def test_a_poisoned_sequence_ends_alone_and_the_others_go_on(
    model: Model, how: str, error: type[Exception]
) -> None:
    prompts = [make_prompt(4 + i, seed=i, max_tokens=8) for i in range(3)]
    expected = [alone(make_engine(model), prompt) for prompt in prompts]
    engine = poisoned(model, how)
    started = [start(engine, prompt) for prompt in prompts]
    made = [[first] for _, first in started]
    victim, _ = start(engine, make_prompt(6, seed=50))
    victim.tokens[-1] = POISON
    results = engine.step([victim, *(sequence for sequence, _ in started)])
    assert isinstance(results[0], error)
    engine.close(victim)
    for index, result in enumerate(results[1:]):
        made[index].append(sampled(result))
    while made[0][-1].end is None:
        for index, result in enumerate(engine.step([sequence for sequence, _ in started])):
            made[index].append(sampled(result))
    assert made == expected


def test_after_a_failure_the_cache_of_the_others_is_whole(model: Model) -> None:
    """The failed run may not count: each row holds as many positions as its sequence."""
    engine = poisoned(model, "raise")
    started = [start(engine, make_prompt(5 + i, seed=i))[0] for i in range(3)]
    started[1].tokens[-1] = POISON
    engine.step(started)
    lengths: list[int] = [int(engine.slots.lengths[engine.slots.row(s.key)]) for s in started]
    assert lengths == [s.cached for s in started]
    assert lengths[1] == 6


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_seen_wherever_they_are(
    model: Model, temperature: float, value: float
) -> None:
    engine = make_engine(model)
    sequence, _ = start(engine, make_prompt(temperature=temperature))
    logits: npt.NDArray[np.float32] = np.zeros((1, model.spec.vocab_size), np.float32)
    logits[0, 3000] = value
    sequence.cached += 1
    with np.errstate(invalid="ignore"):
        (result,) = engine._sample(logits, [sequence])
    assert isinstance(result, BrokenRowError)


class OnceBrokenBatch(InPlaceBatch):
    """Gives NaN for the chunk with a certain number, logits and KV alike."""

    def __init__(self, model: Model, engine: Engine, broken: int) -> None:
        super().__init__(model, engine.slots)
        self.slots = engine.slots
        self.left = broken

    def prefill(
        self,
        row: int,
        token_ids: npt.NDArray[np.int64],
        run_options: ort.RunOptions | None = None,
    ) -> Logits:
        logits = super().prefill(row, token_ids, run_options)
        self.left -= 1
        if self.left == 0:
            logits[:] = np.nan
            for buffer in self.slots.buffers:
                buffer[row, :, CHUNK : 2 * CHUNK] = np.nan
        return logits


def test_a_broken_chunk_is_not_shared(model: Model) -> None:
    prompt = make_prompt(2 * CHUNK + 5)
    expected = alone(make_engine(model), prompt)
    engine = make_engine(model, slots=2, prefix_cache_bytes=1 << 24)
    engine._batch = OnceBrokenBatch(model, engine, broken=2)
    sequence = engine.open(prompt)
    engine.admit(sequence)
    results = [engine.prefill(sequence) for _ in range(3)]
    assert isinstance(results[-1], BrokenRowError)
    engine.close(sequence)
    assert alone(engine, prompt) == expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_former_occupant_left_in_a_row_does_not_matter(case: Case) -> None:
    model = opened(case.path)

    def step(left: float) -> Logits:
        slots = Slots(model.spec, slots=2, max_len=64)
        for key in (1, 2):
            slots.open(key)
        for buffer in slots.buffers:
            buffer[0, :, 3:40] = left
        batch = make_batch(model, slots)
        batch.prefill(0, np.array([5, 6, 7]))
        batch.prefill(1, np.arange(5, 25))
        logits: Logits = batch.step([9, 10]).copy()
        return logits

    np.testing.assert_array_equal(step(np.nan), step(0))
    assert np.isfinite(step(np.nan)).all()


def test_a_copy_that_finds_no_memory_costs_time_and_no_token(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = make_prompt(max_tokens=6)
    expected = alone(make_engine(model), prompt)
    engine = make_engine(model, slots=1, parked_kv_bytes=1 << 20)
    sequence, first = start(engine, prompt)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(engine.slots, "copy_out", fail)
    engine.evict(sequence)
    assert repr(engine) == "<Engine <Slots 0 of 1 in use>>"
    engine.admit(sequence)
    made = [first]
    while not sequence.prefilled:
        engine.prefill(sequence)
    while made[-1].end is None:
        made += [sampled(result) for result in engine.step([sequence]) if result is not None]
    assert made == expected
