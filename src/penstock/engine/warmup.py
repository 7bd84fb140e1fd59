"""A first run at several batch sizes, so that no client waits for memory to be laid out."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.engine.engine import Engine
from penstock.engine.sequence import EngineSequence
from penstock.requests import Prompt, Sampling


def warm_up(engine: Engine, slots: int) -> None:
    """Prefill a whole chunk for every slot, and step 1, 2, 4 … all of them.

    And as many as each step has that is captured: the first one of a size is what captures it.

    Resource handling: nothing is left in the engine, whether or not it works.
    Error handling: raises whatever the model raises.
    """
    sizes = sorted({*_sizes(slots), *engine.captured_rows})
    prompt = Prompt(
        token_ids=(0,) * max(min(engine.prefill_chunk, engine.max_len - len(sizes) - 1), 1),
        max_tokens=len(sizes) + 2,
        sampling=Sampling(temperature=0.0),
        seed=0,
        ignore_eos=True,
    )
    opened = [engine.open(prompt) for _ in range(slots)]
    try:
        for sequence in opened:
            engine.admit(sequence)
            engine.prefill(sequence)
        for rows in sizes:
            if opened[0].cached < engine.max_len:
                _step(engine, opened[:rows])
    finally:
        for sequence in opened:
            engine.close(sequence)
        engine.prefixes.clear()


def _sizes(slots: int) -> Iterator[int]:
    rows = 1
    while rows < slots:
        yield rows
        rows *= 2
    yield slots


def _step(engine: Engine, sequences: list[EngineSequence]) -> None:
    for result in engine.step(sequences):
        if isinstance(result, Exception):
            raise result
