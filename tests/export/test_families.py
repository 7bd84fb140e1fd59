"""Every model type computes what its definition says; what a type has of its own is data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.export import ExportError, export_model
from penstock.export.config import FAMILIES, DecoderConfig

from . import reference
from .checkpoints import TINY, write_checkpoint
from .slots import Slots, session

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 50, 24)]


def read(directory: Path, **changes: object) -> DecoderConfig:
    (directory / "config.json").write_text(json.dumps({**TINY, **changes}))
    return DecoderConfig.read(directory)


def read_without(directory: Path, field: str, **changes: object) -> DecoderConfig:
    kept: dict[str, Any] = {name: value for name, value in TINY.items() if name != field}
    (directory / "config.json").write_text(json.dumps({**kept, **changes}))
    return DecoderConfig.read(directory)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_model_type_computes_its_definition(
    tmp_path: Path, model_type: str, *, tied: bool
) -> None:
    config = {
        **TINY,
        "model_type": model_type,
        "tie_word_embeddings": tied,
        "sliding_window": None,
    }
    tensors = write_checkpoint(tmp_path / "source", config)
    report = export_model(tmp_path / "source", tmp_path / "out", dtype="fp32")
    assert report.parameters == sum(values.size for values in tensors.values())
    expected = reference.logits(tensors, config, TOKENS, reference.in_float64)
    slots = Slots(session(tmp_path / "out" / "model.onnx"), slots=1, capacity=32)
    got = [slots.prefill(0, TOKENS[:7]), *(slots.step([token])[0] for token in TOKENS[7:])]
    assert expected.std() > 0.5
    np.testing.assert_allclose(got, expected[6:], atol=2e-4)


def test_biases_and_head_norms_matter(tmp_path: Path) -> None:
    """Or the test above would not notice their absence."""
    for model_type, dropped in (("qwen2", "bias"), ("qwen3", "_norm.weight")):
        config = {**TINY, "model_type": model_type}
        tensors = write_checkpoint(tmp_path / model_type, config)
        less = {n: t for n, t in tensors.items() if "self_attn" not in n or dropped not in n}
        whole, part = (
            reference.logits(each, config, TOKENS, reference.in_float64) for each in (tensors, less)
        )
        assert len(less) < len(tensors)
        assert np.abs(whole - part).max() > 0.5


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"model_type": "mistral", "sliding_window": 16}, 16),
        ({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": True}, 16),
        ({"model_type": "qwen3", "sliding_window": 16, "use_sliding_window": True}, 16),
        ({"model_type": "mistral", "max_position_embeddings": 8192}, 4096),
    ],
)
def test_a_sliding_window_in_use_is_refused(
    tmp_path: Path, changes: dict[str, object], window: int
) -> None:
    with pytest.raises(ExportError, match=rf"sliding_window = {window} is not supported"):
        read(tmp_path, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mistral", "sliding_window": None, "max_position_embeddings": 8192},
        {"model_type": "mistral", "sliding_window": 64},
        {"model_type": "qwen2", "sliding_window": 16},
        {"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False},
        {"model_type": "qwen3", "sliding_window": None, "use_sliding_window": False},
    ],
)
def test_a_sliding_window_not_in_use_is_fine(tmp_path: Path, changes: dict[str, object]) -> None:
    assert read(tmp_path, **changes).layers == 3


def test_null_is_not_the_default_where_null_means_something(tmp_path: Path) -> None:
    assert read_without(tmp_path, "head_dim", model_type="qwen3").head_dim == 128
    assert read(tmp_path, model_type="qwen3", head_dim=None).head_dim == 16
    heads = {"num_attention_heads": 16, "head_dim": 32, "model_type": "mistral"}
    assert read_without(tmp_path, "num_key_value_heads", **heads).kv_heads == 8
    assert read(tmp_path, **heads, num_key_value_heads=None).kv_heads == 16


def test_a_bias_that_is_not_part_of_the_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="attention_bias = True is not supported"):
        read(tmp_path, model_type="qwen3", attention_bias=True)
