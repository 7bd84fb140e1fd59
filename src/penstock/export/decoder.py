"""The decoder as a graph: embedding, layers of attention and feed-forward, head.

Inputs  input_ids [batch, sequence] and attention_mask [batch, total_sequence], int64; for each
        layer past_key_values.N.key and .value [batch, kv_heads, past_sequence, head_dim].
Outputs logits [batch, 1, vocab] of the last position; present.N.key and .value.
Caches are of the precision's dtype; logits too, but for bf16, whose logits are float32.

Keys and values may be bound to one buffer for past and present, which is then written in place.
The mask is right-padded: the ones in a row are that row's length. Positions follow from it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto

from penstock.export.blocks import Blocks
from penstock.export.config import DecoderConfig
from penstock.export.float32 import BFloat16, Float16, Float32
from penstock.export.graph import MICROSOFT, Graph, floats, integers
from penstock.export.int8row import Int8Row
from penstock.export.precision import Dtype, Precision, fit
from penstock.export.weights import Tensors

PRECISIONS: Mapping[Dtype, Callable[[Graph], Precision]] = {
    "fp32": Float32,
    "fp16": Float16,
    "bf16": BFloat16,
    "int8row": Int8Row,
    "int8": partial(Blocks, bits=8),
    "int4": partial(Blocks, bits=4),
}

_SIDES = ("key", "value")


def decoder_model(
    config: DecoderConfig, checkpoint: Tensors, dtype: Dtype, graph: Graph | None = None
) -> ModelProto:
    """Build the model, in `graph` if one is given.

    ExportError if the checkpoint lacks a tensor or disagrees with `config`.
    """
    graph = graph or Graph()
    precision = PRECISIONS[dtype](graph)
    _Decoder(config, checkpoint, graph, precision).build()
    properties = {"producer": "penstock", "dtype": dtype}
    return graph.model(_inputs(config, precision), _outputs(config, precision), properties)


def _inputs(config: DecoderConfig, precision: Precision) -> list[ValueInfoProto]:
    return [
        integers("input_ids", "batch", "sequence"),
        integers("attention_mask", "batch", "total_sequence"),
        *_caches(config, precision.dtype, "past_key_values", "past_sequence"),
    ]


def _outputs(config: DecoderConfig, precision: Precision) -> list[ValueInfoProto]:
    return [
        floats("logits", "batch", 1, config.vocab, dtype=precision.logits),
        *_caches(config, precision.dtype, "present", "present_sequence"),
    ]


def _caches(
    config: DecoderConfig, kind: np.dtype[Any], name: str, length: str
) -> list[ValueInfoProto]:
    shape = ("batch", config.kv_heads, length, config.head_dim)
    return [
        floats(f"{name}.{layer}.{side}", *shape, dtype=kind)
        for layer in range(config.layers)
        for side in _SIDES
    ]


class _Decoder:
    """Adds one decoder to one graph; every method gives the name of the tensor it made."""

    def __init__(
        self, config: DecoderConfig, checkpoint: Tensors, graph: Graph, precision: Precision
    ) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._graph = graph
        self._precision = precision

    def build(self) -> None:
        config = self._config
        positions = self._positions()
        embedding = self._matrix("embed_tokens", config.vocab, config.hidden)
        residual = self._precision.embed(embedding)
        normed = self._norm("layers.0.input_layernorm", residual, config.hidden)
        for layer in range(config.layers):
            attended = self._attention(layer, normed, positions)
            name = f"layers.{layer}.post_attention_layernorm"
            normed, residual = self._add_and_norm(residual, attended, name)
            fed = self._feed_forward(layer, normed)
            normed, residual = self._add_and_norm(residual, fed, self._norm_after(layer))
        head = embedding if config.tied else self._untied_head()
        self._precision.head(normed, head, tied=config.tied)

    def _positions(self) -> list[str]:
        """Give what the attention kernel asks for: last position of each row, total, cos, sin."""
        graph = self._graph
        one = graph.constant("one", np.array([1], np.int64))
        lengths = graph.node("ReduceSum", ["attention_mask", one], "row_lengths", keepdims=0)
        lasts = graph.node("Sub", [lengths, one], "row_lasts.int64")
        shape = graph.node("Shape", ["attention_mask"], "attention_mask.shape")
        total = graph.node("Gather", [shape, one], "total.int64")
        return [
            graph.node("Cast", [lasts], "row_lasts", to=TensorProto.INT32),
            graph.node("Cast", [total], "total", to=TensorProto.INT32),
            *self._rotations(),
        ]

    def _rotations(self) -> list[str]:
        """Store cos and sin [max_positions, head_dim / 2]."""
        config = self._config
        frequencies = config.rope_theta ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
        angles = np.outer(np.arange(config.max_positions), frequencies)
        return [
            self._floats("cos", np.cos(angles).astype(np.float32)),
            self._floats("sin", np.sin(angles).astype(np.float32)),
        ]

    def _attention(self, layer: int, rows: str, positions: list[str]) -> str:
        """Attend over [batch, sequence, hidden] and the layer's cache; same shape comes out."""
        config, at = self._config, f"layers.{layer}.self_attn"
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        sizes = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        # One multiplication instead of three: 7 % less for a step of the default model.
        packed = np.concatenate(
            [self._matrix(f"{at}.{n}", s, config.hidden) for n, s in sizes.items()]
        )
        qkv = self._precision.project(f"{at}.qkv", rows, packed)
        if config.qkv_bias:
            biases = [
                self._checkpoint.tensor(f"model.{at}.{n}.bias", (s,)) for n, s in sizes.items()
            ]
            stored = self._floats(f"{at}.qkv.bias", np.concatenate(biases))
            qkv = self._graph.node("Add", [qkv, stored], f"{at}.qkv.biased")
        heads = self._normed_heads(at, qkv) if config.head_norms else [qkv, "", ""]
        attended = self._attend(layer, heads, positions)
        output = self._matrix(f"{at}.o_proj", config.hidden, queries)
        return self._precision.project(f"{at}.output", attended, output)

    def _normed_heads(self, at: str, qkv: str) -> list[str]:
        """Split into queries, keys and values; the first two with each head normalised."""
        config, graph = self._config, self._graph
        widths = [
            each * config.head_dim for each in (config.heads, config.kv_heads, config.kv_heads)
        ]
        parts = [f"{at}.{name}" for name in ("queries", "keys", "values")]
        sizes = graph.constant("qkv.widths", np.array(widths, np.int64))
        graph.node("Split", [qkv, sizes], *parts, axis=-1)
        split = graph.constant("by_head", np.array([0, 0, -1, config.head_dim], np.int64))
        flat = graph.constant("flat_heads", np.array([0, 0, -1], np.int64))
        normed = []
        for part, name in zip(parts[:2], ("q_norm", "k_norm"), strict=True):
            by_head = graph.node("Reshape", [part, split], f"{part}.by_head")
            rows = self._norm(f"{at}.{name}", by_head, config.head_dim)
            normed.append(graph.node("Reshape", [rows, flat], f"{part}.normed"))
        return [*normed, parts[2]]

    def _attend(self, layer: int, heads: list[str], positions: list[str]) -> str:
        past = [f"past_key_values.{layer}.{side}" for side in _SIDES]
        present = [f"present.{layer}.{side}" for side in _SIDES]
        return self._graph.node(
            "GroupQueryAttention",
            [*heads, *past, *positions],
            f"layers.{layer}.self_attn.attended",
            *present,
            domain=MICROSOFT,
            num_heads=self._config.heads,
            kv_num_heads=self._config.kv_heads,
            do_rotary=1,
        )

    def _feed_forward(self, layer: int, rows: str) -> str:
        """silu(gate) * up, projected back to [batch, sequence, hidden].

        Gate and up stay two multiplications: to split one costs prefill 10 % and gains nothing.
        """
        graph, config, at = self._graph, self._config, f"layers.{layer}.mlp"
        wide, narrow = (config.intermediate, config.hidden), (config.hidden, config.intermediate)
        gate = self._precision.project(f"{at}.gate", rows, self._matrix(f"{at}.gate_proj", *wide))
        up = self._precision.project(f"{at}.up", rows, self._matrix(f"{at}.up_proj", *wide))
        sigmoid = graph.node("Sigmoid", [gate], f"{at}.sigmoid")
        silu = graph.node("Mul", [gate, sigmoid], f"{at}.silu")
        product = graph.node("Mul", [silu, up], f"{at}.product")
        return self._precision.project(
            f"{at}.down", product, self._matrix(f"{at}.down_proj", *narrow)
        )

    def _norm(self, name: str, rows: str, width: int) -> str:
        weight = self._norm_weight(name, width)
        return self._graph.node(
            "SimplifiedLayerNormalization", [rows, weight], name, axis=-1, epsilon=self._config.eps
        )

    def _add_and_norm(self, residual: str, update: str, name: str) -> tuple[str, str]:
        """Give the normalised sum and the sum itself."""
        total = f"{name}.residual"
        normed = self._graph.node(
            "SkipSimplifiedLayerNormalization",
            [residual, update, self._norm_weight(name, self._config.hidden)],
            name,
            "",
            "",
            total,
            domain=MICROSOFT,
            epsilon=self._config.eps,
        )
        return normed, total

    def _norm_after(self, layer: int) -> str:
        following = layer + 1
        return "norm" if following == self._config.layers else f"layers.{following}.input_layernorm"

    def _norm_weight(self, name: str, width: int) -> str:
        weights = self._checkpoint.tensor(f"model.{name}.weight", (width,))
        return self._floats(f"{name}.weight", weights)

    def _floats(self, name: str, values: NDArray[np.float32]) -> str:
        return self._graph.constant(name, fit(name, values, self._precision.dtype))

    def _untied_head(self) -> NDArray[np.float32]:
        return self._checkpoint.tensor("lm_head.weight", (self._config.vocab, self._config.hidden))

    def _matrix(self, name: str, outputs: int, inputs: int) -> NDArray[np.float32]:
        return self._checkpoint.tensor(f"model.{name}.weight", (outputs, inputs))
