"""A first run at each batch size, so that no client waits for memory to be laid out."""

from __future__ import annotations

from penstock.engine.engine import Engine
from penstock.requests import Prompt, Sampling


def warm_up(engine: Engine, slots: int) -> None:
    """Prefill a whole chunk for every slot, and step with 1, 2 … `slots` of them."""
    length = max(engine.max_len - slots - 1, 1)
    prompt = Prompt(
        token_ids=(0,) * min(engine.prefill_chunk, length),
        max_tokens=slots + 1,
        sampling=Sampling(temperature=0.0),
        seed=0,
        ignore_eos=True,
    )
    opened = [engine.open(prompt) for _ in range(slots)]
    for sequence in opened:
        engine.admit(sequence)
        engine.prefill(sequence)
    for rows in range(1, slots + 1):
        engine.step(opened[:rows])
    for sequence in opened:
        engine.close(sequence)
    engine.prefixes.clear()
