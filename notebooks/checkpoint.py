"""The embedded model's weights as a checkpoint: read back out of the graph that is shipped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from penstock.export.config import DecoderConfig
from penstock.models import embedded_model

Tensors = dict[str, npt.NDArray[np.float32]]


def write_checkpoint(folder: Path) -> None:
    """A folder as a training would leave it, so that `penstock export` takes it."""
    folder.mkdir(parents=True)
    for file in embedded_model().iterdir():
        if file.suffix in (".json", ".jinja"):
            shutil.copy(file, folder)
    _write_safetensors(folder / "model.safetensors", _tensors(embedded_model()))


def _tensors(shipped: Path) -> Tensors:
    graph = onnx.load(shipped / "model.onnx").graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    config = DecoderConfig.read(shipped)
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim

    def matrix(name: str) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = stored[f"{name}.weight"] * stored[f"{name}.weight_scale"]
        return values.T

    found: Tensors = {
        "model.embed_tokens.weight": stored["embedding"] * stored["embedding.scale"],
        "model.norm.weight": stored["norm.weight"],
    }
    for layer in range(config.layers):
        at = f"layers.{layer}"
        packed = np.split(matrix(f"{at}.self_attn.qkv"), [queries, queries + keys])
        for name, part in zip("qkv", packed, strict=True):
            found[f"model.{at}.self_attn.{name}_proj.weight"] = part
        found[f"model.{at}.self_attn.o_proj.weight"] = matrix(f"{at}.self_attn.output")
        for name in ("gate", "up", "down"):
            found[f"model.{at}.mlp.{name}_proj.weight"] = matrix(f"{at}.mlp.{name}")
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"model.{at}.{name}.weight"] = stored[f"{at}.{name}.weight"]
    return found


def _write_safetensors(file: Path, tensors: Tensors) -> None:
    """Eight bytes of length, a JSON header, then the data."""
    header, data = {}, b""
    for name, values in tensors.items():
        raw = np.ascontiguousarray(values, np.float32).tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": place}
        data += raw
    told = json.dumps(header).encode()
    file.write_bytes(len(told).to_bytes(8, "little") + told + data)
