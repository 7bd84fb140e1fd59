"""The fp16 export: what of it a CPU can show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from penstock.engine.device_graph import DeviceGraph
from penstock.export import ExportError, export_model
from penstock.export.config import FAMILIES

from . import reference
from .checkpoints import TINY, random_tensors, write_checkpoint, write_tensors
from .graphs import check, float_kinds, written
from .slots import Slots, session

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 50, 24)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_logits_are_those_of_float32_but_for_rounding(
    tmp_path: Path, model_type: str, *, tied: bool
) -> None:
    config, file = written(tmp_path, "fp16", model_type=model_type, tie_word_embeddings=tied)
    expected = reference.logits(random_tensors(config), config, TOKENS, reference.in_float64)
    slots = Slots(session(file), slots=1, capacity=32)
    got = np.array(
        [slots.prefill(0, TOKENS[:7]), *(slots.step([token])[0] for token in TOKENS[7:])]
    )
    # Eleven bits of each of a hundred sums; the logits span about ±6.
    np.testing.assert_allclose(got, expected[6:], atol=0.1)
    assert np.corrcoef(got.ravel(), expected[6:].ravel())[0, 1] > 0.9999
    assert np.abs(got - expected[6:]).max() > 0


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_graph_is_a_valid_one_in_float16_throughout(tmp_path: Path, model_type: str) -> None:
    _, file = written(tmp_path, "fp16", model_type=model_type)
    model = onnx.load(file)
    check(model)
    kinds = {each.data_type for each in model.graph.initializer}
    assert kinds <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert set(float_kinds(model).values()) == {TensorProto.FLOAT16}


def test_attention_is_what_the_kernel_on_cuda_asks_for(tmp_path: Path) -> None:
    config, file = written(tmp_path, "fp16")
    model = onnx.load(file)
    nodes = [each for each in model.graph.node if each.op_type == "GroupQueryAttention"]
    assert len(nodes) == config["num_hidden_layers"]
    constants = {each.name: each for each in model.graph.initializer}
    for node in nodes:
        told = {each.name: each.i for each in node.attribute}
        assert told == {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}
        packed, key, value, *_, lasts, total, cos, sin = node.input
        assert (key, value) == ("", "")
        assert packed.endswith("qkv")
        for name in (cos, sin):
            assert list(constants[name].dims) == [64, 16]
            assert constants[name].data_type == TensorProto.FLOAT16
        casts = {n.output[0]: n.attribute[0].i for n in model.graph.node if n.op_type == "Cast"}
        assert casts[lasts] == casts[total] == TensorProto.INT32


def test_it_is_what_cuda_takes(tmp_path: Path) -> None:
    _, file = written(tmp_path, "fp16")
    graph = DeviceGraph(file)
    assert graph.lack() is None
    assert (graph.layout.vocab_size, graph.layout.last_only, graph.width) == (50, True, 50)
    check(onnx.load_from_string(graph.ready()))


def test_a_weight_that_float16_cannot_hold_is_named(tmp_path: Path) -> None:
    tensors = write_checkpoint(tmp_path / "source", TINY)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 4] = 7e4
    write_tensors(tmp_path / "source" / "model.safetensors", tensors)
    with pytest.raises(ExportError, match=r"layers\.1\.mlp\.up.*float16 cannot hold.*fp32"):
        export_model(tmp_path / "source", tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()
