"""The bf16 export: what of it a CPU can show, which has no kernels to run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from penstock.engine.device_graph import DeviceGraph
from penstock.engine.model import CudaError, ModelError, load_model
from penstock.export import ExportError, export_model
from penstock.export.config import FAMILIES
from penstock.export.precision import fit

from . import reference
from .checkpoints import TINY, random_tensors, write_checkpoint, write_tensors
from .graphs import BFLOAT16, angles, check, float_kinds, rounded, widened, written
from .slots import Slots, session

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 50, 24)]

CUDA_KERNELS = {
    "Add",
    "Cast",
    "Gather",
    "GroupQueryAttention",
    "MatMul",
    "Mul",
    "ReduceSum",
    "Reshape",
    "Shape",
    "Sigmoid",
    "SimplifiedLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Split",
    "Sub",
    "Transpose",
}
"""Those that libonnxruntime_providers_cuda 1.31 has for bfloat16, or for any type."""


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_graph_computes_the_model_whose_weights_are_rounded(
    tmp_path: Path, model_type: str, *, tied: bool
) -> None:
    """In float32, by onnxruntime, beside the definition of the architecture in float64."""
    config, file = written(tmp_path, "bf16", model_type=model_type, tie_word_embeddings=tied)
    weights = {name: rounded(values) for name, values in random_tensors(config).items()}
    expected = reference.logits(weights, config, TOKENS, reference.in_float64)
    slots = Slots(session(widened(file, tmp_path / "wide.onnx", config)), slots=1, capacity=32)
    got = np.array(
        [slots.prefill(0, TOKENS[:7]), *(slots.step([token])[0] for token in TOKENS[7:])]
    )
    np.testing.assert_allclose(got, expected[6:], atol=1e-3)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_graph_is_a_valid_one_in_bfloat16_but_for_the_logits(
    tmp_path: Path, model_type: str
) -> None:
    _, file = written(tmp_path, "bf16", model_type=model_type)
    model = onnx.load(file)
    check(model)
    assert {each.data_type for each in model.graph.initializer} == {
        TensorProto.BFLOAT16,
        TensorProto.INT64,
    }
    kinds = float_kinds(model)
    assert kinds.pop("logits") == TensorProto.FLOAT
    assert set(kinds.values()) == {TensorProto.BFLOAT16}
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    assert (last.op_type, last.attribute[0].i) == ("Cast", TensorProto.FLOAT)
    assert {node.op_type for node in model.graph.node} <= CUDA_KERNELS


def test_shapes_and_types_follow_through_the_graph(tmp_path: Path) -> None:
    """By onnx's own inference, up to the first operator that only onnxruntime has."""
    _, file = written(tmp_path, "bf16")
    inferred = onnx.shape_inference.infer_shapes(onnx.load(file), check_type=True, data_prop=True)
    found = {each.name: each.type.tensor_type for each in inferred.graph.value_info}
    assert found["embedded"].elem_type == TensorProto.BFLOAT16
    assert [each.dim_value for each in found["embedded"].shape.dim][2] == TINY["hidden_size"]


def test_each_weight_is_rounded_to_the_nearest(tmp_path: Path) -> None:
    config, file = written(tmp_path, "bf16", tie_word_embeddings=False)
    stored = {each.name: each for each in onnx.load(file).graph.initializer}
    tensors = random_tensors(config)
    for name, weight in (
        ("embedding", tensors["model.embed_tokens.weight"]),
        ("cos", np.cos(angles(config))),
        ("sin", np.sin(angles(config))),
        ("norm.weight", tensors["model.norm.weight"]),
        ("logits.bfloat16.weight", tensors["lm_head.weight"].T),
        ("layers.1.mlp.down.weight", tensors["model.layers.1.mlp.down_proj.weight"].T),
    ):
        kept = numpy_helper.to_array(stored[name]).astype(np.float32)
        np.testing.assert_array_equal(kept, rounded(weight))
        assert len(stored[name].raw_data) == 2 * weight.size


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=False, min_value=-(2.0**127), max_value=2.0**127))
def test_rounding_is_by_the_definition(value: float) -> None:
    given_ = np.full((1, 1), value, np.float32)
    np.testing.assert_array_equal(fit("x", given_, BFLOAT16).astype(np.float32), rounded(given_))


def test_what_was_in_bfloat16_is_not_changed(tmp_path: Path) -> None:
    tensors = {name: rounded(values) for name, values in random_tensors(TINY).items()}
    write_checkpoint(tmp_path / "source", TINY)
    write_tensors(tmp_path / "source" / "model.safetensors", tensors)
    export_model(tmp_path / "source", tmp_path / "out", dtype="bf16")
    stored = {
        each.name: each for each in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer
    }
    kept = numpy_helper.to_array(stored["embedding"]).astype(np.float32)
    np.testing.assert_array_equal(kept, tensors["model.embed_tokens.weight"])


def test_what_float16_cannot_hold_bfloat16_can(tmp_path: Path) -> None:
    tensors = write_checkpoint(tmp_path / "source", TINY)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 4] = 7e4
    write_tensors(tmp_path / "source" / "model.safetensors", tensors)
    export_model(tmp_path / "source", tmp_path / "out", dtype="bf16")
    tensors[name][3, 4] = 3.4e38
    write_tensors(tmp_path / "source" / "model.safetensors", tensors)
    with pytest.raises(ExportError, match=r"layers\.1\.mlp\.up.*bfloat16 cannot hold.*fp32"):
        export_model(tmp_path / "source", tmp_path / "other", dtype="bf16")


def test_it_is_half_the_size_of_float32(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "source", TINY)
    sizes = {
        dtype: export_model(tmp_path / "source", tmp_path / dtype, dtype=dtype).bytes
        for dtype in ("fp32", "fp16", "bf16")
    }
    assert sizes["bf16"] == pytest.approx(sizes["fp16"], rel=0.01)
    assert sizes["bf16"] < 0.6 * sizes["fp32"]


def test_it_is_what_cuda_takes(tmp_path: Path) -> None:
    _, file = written(tmp_path, "bf16")
    graph = DeviceGraph(file)
    assert graph.lack() is None
    assert (graph.layout.vocab_size, graph.layout.last_only, graph.width) == (50, True, 50)
    made = onnx.load_from_string(graph.ready())
    check(made)
    assert float_kinds(made)["shortlist.values"] == TensorProto.FLOAT


def test_a_cpu_refuses_it_in_one_line(tmp_path: Path) -> None:
    _, file = written(tmp_path, "bf16")
    with pytest.raises(ModelError) as caught:
        load_model(file)
    assert not isinstance(caught.value, CudaError)
    said = str(caught.value)
    assert "computes in bfloat16, for which the CPU has no kernels; serve it with" in said
    assert "\n" not in said
