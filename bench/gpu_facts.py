"""What the engine relies on, asked of the device: `python bench/gpu_facts.py MODEL DEVICE`.

One JSON object comes out. `bench/gpu.py` asks this first: were one of these otherwise, its figures
would be of wrong answers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bandwidth import read_bytes_s

from penstock.engine.batch import make_batch
from penstock.engine.cuda import CudaMemory
from penstock.engine.cudart import Cudart
from penstock.engine.in_place import InPlaceBatch
from penstock.engine.model import Model, load_model
from penstock.engine.slots import Slots

BATCHES = (1, 2, 4, 8, 16, 32, 64)
MAX_LEN = 64
COPIED = 1 << 30


def main() -> None:
    folder, device = sys.argv[1:]
    model = load_model(Path(folder), device="cuda" if device == "cuda" else "cpu")
    found = {
        "device": model.device,
        "providers": model.session.get_providers(),
        "bytes_s": cuda_bytes_s() if model.device == "cuda" else read_bytes_s(2),
        "prefix_binding": prefix_binding(model),
        "leftovers_do_not_matter": leftovers_do_not_matter(model),
        "batch_invariance": batch_invariance(model),
        "several_rows_of_several_tokens": several_rows_of_several_tokens(model),
        "step_s": {count: step_s(model, count) for count in (1, 32)},
    }
    print(json.dumps(found))


class Rows:
    """Slots that hold prompts of different lengths, and the batch over them."""

    def __init__(self, model: Model, count: int) -> None:
        self.slots = Slots(model.spec, slots=count, max_len=MAX_LEN, memory=model.memory)
        batch = make_batch(model, self.slots)
        assert isinstance(batch, InPlaceBatch)
        self.batch = batch
        for row in range(count):
            self.slots.open(row)
            self.batch.prefill(row, tokens_of(model, row))

    def cache(self, row: int) -> bytes:
        length = int(self.slots.lengths[row])
        return b"".join(part.tobytes() for part in self.slots.copy_out(row, 0, length).parts)


def tokens_of(model: Model, row: int) -> np.ndarray:
    length = 9 + 5 * row % 23
    return np.random.default_rng(row).integers(8, model.spec.vocab_size, length)


def prefix_binding(model: Model) -> dict[str, Any]:
    """A step of the first two rows of four: theirs alone, and the same as with two rows in all."""
    four, two = Rows(model, 4), Rows(model, 2)
    parked = [four.cache(row) for row in (2, 3)]
    made, expected = four.batch.step([5, 6]).copy(), two.batch.step([5, 6]).copy()
    return {
        "parked_rows_untouched": [four.cache(row) for row in (2, 3)] == parked,
        "same_cache": [four.cache(row) for row in (0, 1)] == [two.cache(row) for row in (0, 1)],
        "largest_difference": difference(made, expected),
    }


def leftovers_do_not_matter(model: Model) -> bool:
    """NaN behind the end of a row, where a former occupant may have left it."""
    clean, dirty = Rows(model, 2), Rows(model, 2)
    spec, end = model.spec, int(dirty.slots.lengths[0])
    nan = np.full((spec.kv_heads, MAX_LEN - end, spec.head_dim), np.nan, spec.kv_dtype)
    for buffer in dirty.slots.buffers:
        model.memory.write(buffer, 0, end, nan)
    return difference(clean.batch.step([5, 6]), dirty.batch.step([5, 6])) == 0


def batch_invariance(model: Model) -> dict[int, float]:
    """How far the first row's logits are, in a batch of so many, from those alone."""
    first = {}
    for count in BATCHES:
        rows = Rows(model, count)
        first[count] = rows.batch.step([5 + row for row in range(count)])[0].copy()
    return {count: difference(first[1], logits) for count, logits in first.items()}


def several_rows_of_several_tokens(model: Model) -> dict[str, Any]:
    """A run with more than one token for more than one row behind a past, which a CPU refuses."""
    apart, together = Rows(model, 1), Rows(model, 2)
    length, more = int(apart.slots.lengths[0]), 4
    together.slots.lengths[:] = length
    extra = np.arange(20, 20 + more)
    binding = together.batch._bind_rows(0, 2)
    together.batch._bind_tokens(
        binding,
        input_ids=np.stack([extra, extra]),
        attention_mask=np.ones((2, length + more), np.int64),
        position_ids=np.stack([np.arange(length, length + more)] * 2),
    )
    try:
        model.session.run_with_iobinding(binding)
    except Exception as error:
        return {"works": False, "reason": str(error).splitlines()[0][-200:]}
    made = together.batch._fetch(together.batch._logits, 0, 1)[0]
    return {"works": True, "largest_difference": difference(made, apart.batch.prefill(0, extra))}


def step_s(model: Model, count: int, steps: int = 30) -> dict[str, float]:
    """Where a step's time goes: the graph alone, with its inputs bound, with its logits fetched.

    `shortlist` is there on a device only, in place of all logits.
    """
    rows = Rows(model, count)
    batch, lengths, ids = rows.batch, rows.slots.lengths.copy(), [5] * count

    def taken(run: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(steps):
            rows.slots.lengths[:] = lengths
            started = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - started)
        return best

    batch.step(ids)
    return {
        "graph": taken(lambda: model.session.run_with_iobinding(batch._steps[count])),
        "bound": taken(lambda: batch._run(ids)),
        "logits": taken(lambda: batch.step(ids)),
        **({"shortlist": taken(lambda: batch.shortlist(ids))} if model.shortlist else {}),
    }


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(np.float64) - right).max())


def cuda_bytes_s(repeats: int = 10) -> float:
    """Bytes read or written a second, of copies within the device."""
    cudart = Cudart.load()
    memory = CudaMemory(cudart)
    source, target = (memory.zeros((1, COPIED), np.uint8) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        cudart.copy((target.address, COPIED), (source.address, COPIED), COPIED, 1)
        cudart.settle()
        best = min(best, time.perf_counter() - started)
    return 2 * COPIED / best


if __name__ == "__main__":
    main()
