"""int8row quantises each row by itself: exactly as defined, and never mind the neighbours."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from penstock.export.graph import Graph, floats, integers
from penstock.export.int8row import Int8Row
from penstock.export.quantise import quantise_weights

from . import reference
from .conftest import Exported
from .slots import Slots, session

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 50, 24)]


def run_projection(rows: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run `project` alone on rows [batch, sequence, inputs]."""
    graph = Graph()
    Int8Row(graph).project("out", "rows", weights)
    batch, sequence, inputs = rows.shape
    model = graph.model(
        [integers("input_ids", "batch", "sequence"), floats("rows", "batch", "sequence", inputs)],
        [floats("out", "batch", "sequence", len(weights))],
        {},
    )
    running = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"input_ids": np.zeros((batch, sequence), np.int64), "rows": rows}
    got: NDArray[np.float32] = running.run(["out"], feed)[0]
    return got


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (1, 7), (5, 1)])
def test_a_projection_is_bit_exact(batch: int, sequence: int) -> None:
    generator = np.random.default_rng(2)
    rows = generator.normal(size=(batch, sequence, 96)).astype(np.float32)
    rows *= np.float32(10) ** generator.integers(-4, 5, (batch, sequence, 1)).astype(np.float32)
    weights = generator.normal(size=(40, 96)).astype(np.float32)
    expected = reference.in_int8_rows(rows.reshape(-1, 96), weights)
    assert np.unique(expected).size > 0.9 * expected.size
    np.testing.assert_array_equal(run_projection(rows, weights).reshape(-1, 40), expected)


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-38])
def test_a_row_of_nothing_gives_nothing_and_harms_no_neighbour(size: float) -> None:
    rows = np.random.default_rng(3).normal(size=(2, 1, 32)).astype(np.float32)
    weights = np.random.default_rng(4).normal(size=(8, 32)).astype(np.float32)
    alone = run_projection(rows[1:], weights)
    rows[0] = size
    together = run_projection(rows, weights)
    assert np.abs(together[0]).max() <= 1e-30
    np.testing.assert_array_equal(together[1:], alone)


def test_weights_keep_half_a_step_and_a_row_of_zeros() -> None:
    weights = np.random.default_rng(5).normal(size=(6, 50)).astype(np.float32)
    weights[2] = 0
    values, scales = quantise_weights(weights)
    assert (values[2] == 0).all()
    assert np.abs(values).max() == 64
    assert (np.abs(values * scales - weights) <= scales * 0.5001).all()


def test_two_products_fit_in_the_16_bits_of_older_cpus() -> None:
    values, _ = quantise_weights(np.array([[1.0, 1.0], [-1.0, -1.0]], np.float32))
    sums = values.astype(np.int64) @ np.array([255, 255])
    assert -(2**15) <= sums.min() < 0 < sums.max() < 2**15


def test_the_model_agrees_with_the_same_arithmetic_in_numpy(exported: Exported) -> None:
    rounded = {
        **exported.tensors,
        "model.embed_tokens.weight": reference.int8_round_trip(
            exported.tensors["model.embed_tokens.weight"]
        ),
    }
    expected = reference.logits(rounded, exported.config, TOKENS, reference.in_int8_rows)[6:]
    exact = reference.logits(exported.tensors, exported.config, TOKENS, reference.in_float64)[6:]
    slots = Slots(session(exported.model("int8row")), slots=1, capacity=32)
    prefilled = slots.prefill(0, TOKENS[:7])
    got = np.stack([prefilled, *(slots.step([token])[0] for token in TOKENS[7:])])
    errors, quantisation = np.abs(got - expected), np.abs(exact - expected).max()
    # A value on the edge between two integers may fall either way, so a few logits may be off.
    assert np.median(errors) < 1e-5
    assert errors.max() < 0.1 * quantisation


@pytest.mark.parametrize("threads", [1, 2])
def test_logits_do_not_depend_on_the_neighbours(exported: Exported, threads: int) -> None:
    check_batch_invariance(exported.model("int8row"), threads, vocab=50, longest=40)


def check_batch_invariance(model: Path, threads: int, *, vocab: int, longest: int) -> None:
    """Compare three steps of sequences of mixed length alone and in batches of 2 to 16, by bits."""
    generator = np.random.default_rng(6)
    prompts = [generator.integers(0, vocab, n).tolist() for n in generator.integers(1, longest, 16)]
    following = generator.integers(0, vocab, (3, 16)).tolist()
    assert len({len(prompt) for prompt in prompts}) > 8
    running = session(model, threads)
    alone = np.concatenate(
        [_decode(running, [p], [[t[i]] for t in following]) for i, p in enumerate(prompts)], axis=1
    )
    assert len({row.tobytes() for row in alone[0]}) > 8, "different prompts give different logits"
    for batch in range(2, 17):
        together = _decode(running, prompts[:batch], [tokens[:batch] for tokens in following])
        np.testing.assert_array_equal(together, alone[:, :batch], f"in a batch of {batch}")


def _decode(
    running: ort.InferenceSession, prompts: list[list[int]], following: list[list[int]]
) -> NDArray[np.float32]:
    """Return logits [steps, batch, vocab]."""
    slots = Slots(running, len(prompts), capacity=64)
    for slot, prompt in enumerate(prompts):
        slots.prefill(slot, prompt)
    return np.stack([slots.step(tokens) for tokens in following])
