"""Models in real shapes with random weights, made in seconds and stored in the space of a matrix.

Every matrix of the graph is the beginning of one file of random numbers. A session loads each on
its own, so the device holds and reads as many bytes as it would of the real model.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from penstock.export.config import DecoderConfig
from penstock.export.decoder import decoder_model
from penstock.export.graph import Graph
from penstock.export.precision import fit
from penstock.models import embedded_model

WEIGHTS = "random.bin"
LARGE = 1 << 16
"""Numbers from which on an array is a matrix."""
EXACT = ("cos", "sin")
BLOCK = 1 << 24
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def qwen2(
    hidden: int, wide: int, layers: int, heads: int, kv: int, *, tied: bool
) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": 151936 if tied else 152064,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
    }


SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": qwen2(896, 4864, 24, 14, 2, tied=True),
    "qwen2.5-1.5b": qwen2(1536, 8960, 28, 12, 2, tied=True),
    "qwen2.5-7b": qwen2(3584, 18944, 28, 28, 4, tied=False),
    "llama-3-8b": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    },
    "tiny": {
        **qwen2(128, 256, 2, 4, 2, tied=True),
        "vocab_size": 4096,
        "max_position_embeddings": 1024,
    },
}


class RandomGraph(Graph):
    """A graph whose matrices lie in `WEIGHTS`, all at its beginning. `bytes` counts them all."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.largest = 0

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        if values.size < LARGE or name in EXACT:
            return super().constant(name, values)
        if name not in self._constants:
            kind = helper.np_dtype_to_tensor_dtype(values.dtype)
            stored = TensorProto(name=name, data_type=kind, dims=values.shape)
            stored.data_location = TensorProto.EXTERNAL
            for key, value in (("location", WEIGHTS), ("offset", 0), ("length", values.nbytes)):
                stored.external_data.add(key=key, value=str(value))
            self._constants[name] = stored
            self.bytes += values.nbytes
            self.largest = max(self.largest, values.nbytes)
        return name


class Anything:
    """Tensors of any name and shape; what is in them matters for norms alone."""

    def tensor(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        return np.broadcast_to(np.float32("norm" in name), shape)


def of_shape(name: str, values: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """In place of `fit`: nobody reads the numbers of a matrix, and rounding 7 B takes minutes."""
    if values.size < LARGE or name in EXACT:
        return fit(name, values, dtype)
    return np.broadcast_to(np.zeros((), dtype), values.shape)


def make(name: str, folder: Path, dtype: Literal["fp16", "bf16"] = "fp16") -> int:
    """Write the shape `name` into `folder`; the bytes of all its matrices."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[name]))
    for each in TOKENIZER:
        shutil.copyfile(embedded_model() / each, folder / each)
    graph = RandomGraph()
    with patch("penstock.export.float32.fit", of_shape):
        model = decoder_model(DecoderConfig.read(folder), Anything(), dtype, graph)
    onnx.save(model, folder / "model.onnx")
    write_numbers(folder / WEIGHTS, graph.largest, dtype)
    return graph.bytes


def write_numbers(file: Path, size: int, dtype: Literal["fp16", "bf16"]) -> None:
    """Numbers of either sign between 1/128 and 1/64."""
    random, exponent = {"fp16": (0x83FF, 8 << 10), "bf16": (0x807F, 120 << 7)}[dtype]
    bits = np.random.default_rng(0).integers(0, 1 << 16, BLOCK, np.uint16)
    block = ((bits & random) | exponent).tobytes()
    with file.open("wb") as out:
        for start in range(0, size, len(block)):
            out.write(block[: min(len(block), size - start)])
