"""int8 and int4: blocks of 32 weights share a scale, packed as the kernel reads them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.export import Dtype, ExportError, export_model
from penstock.export.quantise import quantise_blocks

from . import reference
from .checkpoints import TINY, write_checkpoint
from .conftest import Exported
from .slots import Slots, session
from .test_int8row import check_batch_invariance

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 50, 24)]
both = pytest.mark.parametrize(("dtype", "bits"), [("int8", 8), ("int4", 4)])


def unpacked(packed: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    values = packed.astype(np.int64)
    if bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    weights: np.ndarray = (values - 2 ** (bits - 1)) * scales[..., None]
    return weights.reshape(len(packed), -1)


@both
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), blocks=st.integers(1, 4))
@settings(max_examples=40)
def test_packing_keeps_half_a_step(
    dtype: Dtype, bits: int, seed: int, rows: int, blocks: int
) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(rows, 32 * blocks)).astype(np.float32)
    packed, scales = quantise_blocks(weights, bits=bits, block=32)
    assert packed.shape == (rows, blocks, 32 * bits // 8)
    kept = unpacked(packed, scales, bits)
    np.testing.assert_allclose(kept, reference.block_round_trip(weights, bits), atol=1e-6)
    steps = np.repeat(np.abs(scales), 32, axis=1)
    errors = np.abs(kept - weights)
    # The integer range has one number less on the side away from the largest weight.
    assert (
        errors <= np.where(np.abs(kept) < steps * (2 ** (bits - 1) - 2), 0.5001, 1) * steps
    ).all()


def test_zeros_stay_zeros_and_odd_widths_are_refused() -> None:
    weights = np.zeros((2, 64), np.float32)
    weights[1, 40] = 3
    packed, scales = quantise_blocks(weights, bits=4, block=32)
    np.testing.assert_array_equal(unpacked(packed, scales, 4), weights)
    with pytest.raises(ExportError, match="48 wide cannot be split into blocks of 32"):
        quantise_blocks(np.zeros((2, 48), np.float32), bits=4, block=32)


@both
def test_the_model_agrees_with_the_same_arithmetic_in_numpy(
    exported: Exported, dtype: Dtype, bits: int
) -> None:
    """The head and the embedding are kept in 8 bits by both precisions."""
    table, head = "model.embed_tokens.weight", "lm_head.weight"
    rounded = {
        **exported.tensors,
        table: reference.block_round_trip(exported.tensors[table], 8),
    }
    heads = [exported.tensors.get(name) for name in (table, head)]
    blocks, in_eight = reference.in_blocks(bits), reference.in_blocks(8)

    def multiply(rows: reference.Array, weights: reference.Array) -> reference.Array:
        is_head = len(weights) == exported.config["vocab_size"]
        return (in_eight if is_head else blocks)(rows, weights)

    assert heads[0] is not None
    expected = reference.logits(rounded, exported.config, TOKENS, multiply)[6:]
    exact = reference.logits(exported.tensors, exported.config, TOKENS, reference.in_float64)[6:]
    slots = Slots(session(exported.model(dtype)), slots=1, capacity=32)
    got = np.stack([slots.prefill(0, TOKENS[:7]), *(slots.step([t])[0] for t in TOKENS[7:])])
    errors, quantisation = np.abs(got - expected), np.abs(exact - expected).max()
    assert np.median(errors) < 0.01 * quantisation
    assert errors.max() < 0.2 * quantisation


@both
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_do_not_depend_on_the_neighbours(
    exported: Exported, dtype: Dtype, bits: int, threads: int
) -> None:
    check_batch_invariance(exported.model(dtype), threads, vocab=50, longest=40)


@both
def test_fewer_bits_are_a_smaller_file(tmp_path: Path, dtype: Dtype, bits: int) -> None:
    config = {**TINY, "hidden_size": 256, "intermediate_size": 512}
    write_checkpoint(tmp_path / "source", config)
    whole = export_model(tmp_path / "source", tmp_path / "fp32", dtype="fp32").bytes
    part = export_model(tmp_path / "source", tmp_path / dtype, dtype=dtype).bytes
    # A scale of 32 bits for 32 weights is one bit more a weight.
    assert part / whole == pytest.approx((bits + 1) / 32, abs=0.03)
