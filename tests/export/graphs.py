"""Exports for GPUs, as far as a CPU can look at them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from penstock.export import Dtype, export_model

from .checkpoints import TINY, write_checkpoint


def written(tmp_path: Path, dtype: Dtype, **changes: object) -> tuple[dict[str, Any], Path]:
    config = {**TINY, "sliding_window": None, **changes}
    write_checkpoint(tmp_path / "source", config)
    export_model(tmp_path / "source", tmp_path / "out", dtype=dtype)
    return config, tmp_path / "out" / "model.onnx"


def check(model: onnx.ModelProto) -> None:
    """By onnx's own checker, which does not know the one operator that is onnxruntime's alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "SimplifiedLayerNormalization":
            node.domain = "com.microsoft"
    onnx.checker.check_model(copy)


def float_kinds(model: onnx.ModelProto) -> dict[str, int]:
    """The type of each input and output that is no integer."""
    edges = [*model.graph.input, *model.graph.output]
    kinds = {each.name: each.type.tensor_type.elem_type for each in edges}
    return {name: kind for name, kind in kinds.items() if kind != TensorProto.INT64}


def angles(config: Mapping[str, Any]) -> NDArray[np.float64]:
    """By position and pair of dimensions, from the definition."""
    pairs = 2 * np.arange(config["head_dim"] // 2) / config["head_dim"]
    turned: NDArray[np.float64] = np.outer(
        np.arange(config["max_position_embeddings"]), config["rope_theta"] ** -pairs
    )
    return turned


def widened(source: Path, target: Path, config: Mapping[str, Any]) -> Path:
    """The same graph and weights in float32, for a CPU, which has no bfloat16.

    Angles are not rounded: the reference, which is to be compared with, does not round them.
    """
    exact = {"cos": np.cos(angles(config)), "sin": np.sin(angles(config))}
    model = onnx.load(source)
    for stored in model.graph.initializer:
        if stored.data_type == TensorProto.BFLOAT16:
            values = exact.get(stored.name, numpy_helper.to_array(stored)).astype(np.float32)
            stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    for edge in [*model.graph.input, *model.graph.output]:
        if edge.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            edge.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, target)
    return target


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To the nearest of the numbers that have 8 bits, to the even one of two, by its bits."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return kept.astype(np.uint32).view(np.float32)


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
