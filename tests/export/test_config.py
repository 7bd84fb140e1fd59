"""config.json: what is read, what is assumed, what is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.export import ExportError
from penstock.export.config import DecoderConfig

from .checkpoints import TINY, random_tensors


def read(directory: Path, **changes: object) -> DecoderConfig:
    """Read TINY with `changes`; a change to None stands for null."""
    (directory / "config.json").write_text(json.dumps({**TINY, **changes}))
    return DecoderConfig.read(directory)


def read_without(directory: Path, *fields: str) -> DecoderConfig:
    kept: dict[str, Any] = {name: value for name, value in TINY.items() if name not in fields}
    (directory / "config.json").write_text(json.dumps(kept))
    return DecoderConfig.read(directory)


def test_every_field_is_read(tmp_path: Path) -> None:
    assert read(tmp_path) == DecoderConfig(
        layers=3,
        hidden=64,
        intermediate=96,
        heads=4,
        kv_heads=2,
        head_dim=32,
        vocab=50,
        max_positions=64,
        eps=1e-5,
        rope_theta=500.0,
        tied=True,
    )


def test_missing_fields_take_the_defaults_of_the_model_type(tmp_path: Path) -> None:
    got = read_without(
        tmp_path,
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
        "hidden_act",
    )
    assert (got.kv_heads, got.head_dim, got.max_positions) == (4, 16, 2048)
    assert (got.eps, got.rope_theta, got.tied) == (1e-6, 10000.0, False)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 7}, "rope_theta": None},
        {"rope_theta": 7.0, "rope_scaling": {"type": "default"}},
    ],
)
def test_rope_theta_is_found_wherever_it_lies(tmp_path: Path, rope: dict[str, object]) -> None:
    assert read(tmp_path, **rope).rope_theta == 7.0


@pytest.mark.parametrize(
    "window",
    [
        {"sliding_window": None},
        {"sliding_window": 64},
        {"sliding_window": 16, "use_sliding_window": False},
    ],
)
def test_a_sliding_window_that_is_not_in_use_is_fine(
    tmp_path: Path, window: dict[str, object]
) -> None:
    assert read(tmp_path, **window).layers == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "model_type = 'mamba' is not supported; supported: llama"),
        ({"model_type": None}, "model_type = 'None' is not supported; supported: llama"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported; supported: silu"),
        ({"attention_bias": True}, "attention_bias = True is not supported"),
        ({"mlp_bias": True}, "mlp_bias = True is not supported"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = .* is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "rope_type = 'linear' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_type = 'llama3' .* supported: default"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn' is not supported"),
        ({"sliding_window": 16}, "sliding_window = 16 is not supported; supported: none"),
        ({"num_key_value_heads": 3}, "num_attention_heads = 4 is not a multiple of"),
        ({"head_dim": 24}, "head_dim = 24 is not supported; supported: multiples of 16"),
        ({"vocab_size": None}, "vocab_size = None is not a positive whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0 is not a positive whole number"),
        ({"hidden_size": 64.0}, "hidden_size = 64.0 is not a positive whole number"),
        ({"num_attention_heads": True}, "num_attention_heads = True is not a positive whole"),
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0 is not a positive number"),
        ({"rope_theta": "10000"}, "rope_theta = '10000' is not a positive number"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ExportError, match=f"^config.json: {message}"):
        read(tmp_path, **changes)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not valid JSON"), ("[]", "is not a JSON object")]
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ExportError, match=f"config.json {message}"):
        DecoderConfig.read(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no config\.json in"):
        DecoderConfig.read(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_count_the_checkpoint(tmp_path: Path, tied: bool) -> None:
    tensors = random_tensors({**TINY, "tie_word_embeddings": tied})
    expected = sum(values.size for values in tensors.values())
    assert read(tmp_path, tie_word_embeddings=tied).parameters == expected
