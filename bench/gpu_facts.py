"""What the engine relies on, asked of the device: `python bench/gpu_facts.py MODEL DEVICE`.

One JSON object comes out. `bench/gpu.py` asks this first: were one of these otherwise, its figures
would be of wrong answers. A question that fails is told of, and costs the others nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bandwidth import read_bytes_s

from penstock.engine.batch import make_batch
from penstock.engine.cuda import CudaMemory
from penstock.engine.cudart import Cudart
from penstock.engine.in_place import InPlaceBatch
from penstock.engine.model import Model, load_model
from penstock.engine.signature import LASTS, LONGEST
from penstock.engine.slots import Slots

BATCHES = (1, 2, 4, 8, 16, 32, 64)
MAX_LEN = 64
COPIED = 1 << 30


def main() -> None:
    folder, device = sys.argv[1:]
    print(json.dumps(facts(load_model(Path(folder), device="cuda" if device == "cuda" else "cpu"))))


def facts(model: Model) -> dict[str, Any]:
    """All that is asked, by name; `{"failed": …}` for what could not be answered."""
    questions: dict[str, Callable[[], Any]] = {
        "bytes_s": lambda: cuda_bytes_s() if model.device == "cuda" else read_bytes_s(2),
        "prefix_binding": lambda: prefix_binding(model),
        "leftovers_do_not_matter": lambda: leftovers_do_not_matter(model),
        "batch_invariance": lambda: batch_invariance(model),
        "several_rows_of_several_tokens": lambda: several_rows_of_several_tokens(model),
        "equal_logits": lambda: equal_logits(model),
        "parked_rows": lambda: parked_rows(model),
        "step_s": lambda: {count: step_s(model, count) for count in (1, 32)},
    }
    found = {"device": model.device, "providers": model.session.get_providers()}
    return found | {name: answer(ask) for name, ask in questions.items()}


def answer(ask: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return ask()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}


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
    kind = np.dtype(spec.kv_dtype)
    # All ones are NaN in every format of floats, also in the one that numpy has not.
    ones = np.full((spec.kv_heads, MAX_LEN - end, spec.head_dim * kind.itemsize), 255, np.uint8)
    nan = ones.view(kind)
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
    told = {
        "input_ids": np.stack([extra, extra]),
        "attention_mask": np.ones((2, length + more)),
        "position_ids": np.stack([np.arange(length, length + more)] * 2),
        LASTS: np.full(2, length + more - 1),
        LONGEST: np.array([length + more]),
    }
    arrays = {name: told[name].astype(kind) for name, kind in model.signature.tokens.items()}
    for name, array in arrays.items():
        binding.bind_cpu_input(name, array)
    try:
        model.session.run_with_iobinding(binding)
    except Exception as error:
        return {"works": False, "reason": str(error).splitlines()[0][-200:]}
    made = together.batch._fetch(together.batch._logits, 0, 1)[0]
    return {"works": True, "largest_difference": difference(made, apart.batch.prefill(0, extra))}


def equal_logits(model: Model) -> dict[str, Any] | None:
    """Of tokens that are equally likely, does the shortlist name the lowest id first?"""
    if not model.shortlist:
        return None
    rows = Rows(model, 4)
    found = rows.batch.shortlist([5, 6, 7, 8])
    logits = found.whole(range(4))
    order = np.argsort(-logits, axis=1, kind="stable")[:, : model.shortlist]
    return {
        "equal_ones": int((np.diff(found.values, axis=1) == 0).sum()),
        "lowest_first": bool((order == found.ids).all()),
        "values_are_those_of_the_row": bool(
            (np.take_along_axis(logits, found.ids, 1) == found.values).all()
        ),
    }


def parked_rows(model: Model) -> dict[str, float]:
    """Seconds of a step of 8 rows, with no others and beside 56 that are parked."""
    return {str(slots): min(timed(model, 8, slots)) for slots in (8, 64)}


def timed(model: Model, count: int, slots: int, steps: int = 20) -> Iterator[float]:
    rows = Rows(model, slots)
    lengths = rows.slots.lengths.copy()
    for _ in range(steps):
        rows.slots.lengths[:] = lengths
        started = time.perf_counter()
        rows.batch.shortlist([5] * count) or rows.batch.step([5] * count)
        yield time.perf_counter() - started


def step_s(model: Model, count: int, steps: int = 30) -> dict[str, float]:
    """Where a step's time goes: the graph alone, with its inputs put, with its logits fetched.

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
        "graph": taken(
            lambda: model.session.run_with_iobinding(batch._steps[count], batch._as_usual)
        ),
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
