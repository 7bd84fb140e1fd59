"""One sequence's misfortune is its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from penstock.engine.batch import Logits
from penstock.engine.engine import BrokenRowError, Engine
from penstock.engine.in_place import InPlaceBatch
from penstock.engine.model import Model
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


def test_nan_logits_are_seen_wherever_they_are(model: Model) -> None:
    engine = make_engine(model)
    sequence, _ = start(engine, make_prompt())
    logits: npt.NDArray[np.float32] = np.zeros((1, model.spec.vocab_size), np.float32)
    logits[0, 3000] = np.nan
    sequence.cached += 1
    (result,) = engine._sample(logits, [sequence])
    assert isinstance(result, BrokenRowError)
