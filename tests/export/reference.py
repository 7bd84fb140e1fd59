"""A forward pass of a decoder in numpy, from the definition of its architecture: llama and kin.

Written without looking at the exporter: no cache, no batch, no packing, one position after the
other in one matrix. `multiply` is how [rows, inputs] meets a weight [outputs, inputs].
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Multiply = Callable[[Array, Array], Array]


def in_float64(rows: Array, weights: Array) -> Array:
    return rows.astype(np.float64) @ weights.astype(np.float64).T


def in_int8_rows(rows: Array, weights: Array) -> Array:
    """Quantise each row of either side on its own: activations to ±127, weights to ±64."""
    row_scale = (np.abs(rows).max(axis=1, keepdims=True) * np.float32(1 / 127)).astype(np.float32)
    weight_scale = (np.abs(weights).max(axis=1) / np.float32(64)).astype(np.float32)
    left = np.rint(rows.astype(np.float32) / row_scale).astype(np.int64)
    right = np.rint(weights / weight_scale[:, None]).astype(np.int64)
    product: Array = (left @ right.T).astype(np.float32) * weight_scale * row_scale
    return product


def block_round_trip(weights: Array, bits: int) -> Array:
    """What is left of a weight after 32 neighbours in a row shared one scale."""
    kept = np.empty_like(weights, np.float32)
    low = -(2 ** (bits - 1))
    for row in range(len(weights)):
        for start in range(0, weights.shape[1], 32):
            part = weights[row, start : start + 32]
            step = np.float32(part[np.abs(part).argmax()]) / np.float32(low)
            whole = np.rint(part / step).clip(low, -low - 1)
            kept[row, start : start + 32] = whole.astype(np.float32) * step
    return kept


def in_blocks(bits: int) -> Multiply:
    """Weights in blocks of 32; activations rounded to ±127 for each of their blocks of 32."""

    def multiply(rows: Array, weights: Array) -> Array:
        parts = rows.astype(np.float32).reshape(len(rows), -1, 32)
        scale = np.abs(parts).max(axis=2, keepdims=True) / np.float32(127)
        rounded = (np.rint(parts / scale) * scale).reshape(rows.shape)
        return in_float64(rounded, block_round_trip(weights, bits))

    return multiply


def int8_round_trip(weights: Array) -> Array:
    """What is left of a weight after it was stored as int8."""
    scale = (np.abs(weights).max(axis=1, keepdims=True) / np.float32(64)).astype(np.float32)
    kept: Array = np.rint(weights / scale).astype(np.float32) * scale
    return kept


def logits(
    tensors: Mapping[str, Array], config: Mapping[str, Any], tokens: list[int], multiply: Multiply
) -> Array:
    """Return the logits [len(tokens), vocab] of every position."""
    embedding = tensors["model.embed_tokens.weight"]
    hidden = embedding[tokens]
    for layer in range(config["num_hidden_layers"]):
        of_layer = {
            name.removeprefix(f"model.layers.{layer}."): values
            for name, values in tensors.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        hidden = hidden + _attention(of_layer, config, hidden, multiply)
        hidden = hidden + _feed_forward(of_layer, config, hidden, multiply)
    final = _norm(hidden, tensors["model.norm.weight"], config["rms_norm_eps"])
    return multiply(final, tensors.get("lm_head.weight", embedding))


def _norm(rows: Array, weight: Array, eps: float) -> Array:
    mean_square = np.mean(rows * rows, axis=-1, keepdims=True)
    normed: Array = rows / np.sqrt(mean_square + eps) * weight
    return normed


def _attention(
    tensors: Mapping[str, Array], config: Mapping[str, Any], hidden: Array, multiply: Multiply
) -> Array:
    rows = _norm(hidden, tensors["input_layernorm.weight"], config["rms_norm_eps"])
    head_dim, theta = config["head_dim"], config["rope_theta"]
    projected: dict[str, Array] = {
        name: (
            multiply(rows, tensors[f"self_attn.{name}_proj.weight"])
            + tensors.get(f"self_attn.{name}_proj.bias", np.zeros((), np.float32))
        ).reshape(len(rows), -1, head_dim)
        for name in "qkv"
    }
    for name in "qk":
        if f"self_attn.{name}_norm.weight" in tensors:
            weight = tensors[f"self_attn.{name}_norm.weight"]
            projected[name] = _norm(projected[name], weight, config["rms_norm_eps"])
    queries, keys = _rotate(projected["q"], theta), _rotate(projected["k"], theta)
    group = config["num_attention_heads"] // config["num_key_value_heads"]
    heads = [
        _attend(queries[:, head], keys[:, head // group], projected["v"][:, head // group])
        for head in range(config["num_attention_heads"])
    ]
    return multiply(np.concatenate(heads, axis=1), tensors["self_attn.o_proj.weight"])


def _rotate(heads: Array, theta: float) -> Array:
    """Turn the pair (i, i + half) of position p by p * theta ** (-2i / head_dim)."""
    length, _, head_dim = heads.shape
    half = head_dim // 2
    angles = np.arange(length)[:, None] * theta ** (-2 * np.arange(half) / head_dim)
    cos, sin = (
        np.cos(angles)[:, None].astype(heads.dtype),
        np.sin(angles)[:, None].astype(heads.dtype),
    )
    first, second = heads[..., :half], heads[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _attend(queries: Array, keys: Array, values: Array) -> Array:
    length, head_dim = queries.shape
    scores = queries @ keys.T / np.asarray(head_dim**0.5, queries.dtype)
    scores[np.triu_indices(length, 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    attended: Array = weights / weights.sum(axis=1, keepdims=True) @ values
    return attended


def _feed_forward(
    tensors: Mapping[str, Array], config: Mapping[str, Any], hidden: Array, multiply: Multiply
) -> Array:
    rows = _norm(hidden, tensors["post_attention_layernorm.weight"], config["rms_norm_eps"])
    gate = multiply(rows, tensors["mlp.gate_proj.weight"])
    up = multiply(rows, tensors["mlp.up_proj.weight"])
    return multiply(gate / (1 + np.exp(-gate)) * up, tensors["mlp.down_proj.weight"])
