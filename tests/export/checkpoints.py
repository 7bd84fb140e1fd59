"""Write small random checkpoints of every supported shape, and safetensors files by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Tensors = dict[str, Floats]

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # Not hidden / heads, so that no projection is square by accident.
    "head_dim": 32,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint of this config, by its name."""
    hidden, wide, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = (config[f"num_{each}_heads"] * head for each in ("attention", "key_value"))
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        found |= {
            f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.self_attn.q_proj.weight": (queries, hidden),
            f"{at}.self_attn.k_proj.weight": (keys, hidden),
            f"{at}.self_attn.v_proj.weight": (keys, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, queries),
            f"{at}.post_attention_layernorm.weight": (hidden,),
            f"{at}.mlp.gate_proj.weight": (wide, hidden),
            f"{at}.mlp.up_proj.weight": (wide, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, wide),
        }
        if config["model_type"] == "qwen2":
            found |= {
                f"{at}.self_attn.q_proj.bias": (queries,),
                f"{at}.self_attn.k_proj.bias": (keys,),
                f"{at}.self_attn.v_proj.bias": (keys,),
            }
        if config["model_type"] == "qwen3":
            found |= {f"{at}.self_attn.{each}_norm.weight": (head,) for each in "qk"}
    return found


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> Tensors:
    """Weights large enough that attention, norms and gates all matter."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(
            1.0 if len(shape) == 1 else 0.0, 0.3 if len(shape) == 1 else 2 / shape[-1] ** 0.5, shape
        ).astype(np.float32)
        for name, shape in shapes(config).items()
    }


def safetensors(tensors: Mapping[str, NDArray[Any]], dtypes: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file; `dtypes` overrides F32 for the tensors it names."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, values in tensors.items():
        raw = values.tobytes()
        header[name] = {
            "dtype": dtypes.get(name, "F32"),
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def write_tensors(
    file: Path, tensors: Mapping[str, NDArray[Any]], dtypes: Mapping[str, str] | None = None
) -> None:
    file.write_bytes(safetensors(tensors, dtypes or {}))


def write_checkpoint(directory: Path, config: Mapping[str, Any], seed: int = 0) -> Tensors:
    """Write a complete random checkpoint into the new `directory`; return its tensors."""
    tensors = random_tensors(config, seed)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    write_tensors(directory / "model.safetensors", tensors)
    return tensors
