"""A model folder, opened: the ONNX session and all that its files say about it.

What the session itself states (names, shapes, types) wins over `config.json`; the config is asked
only for what a graph cannot hold: context length, EOS ids, token defaults.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

PAST = re.compile(r"^past_key_values\.(\d+)\.(key|value)$")
MODEL_FILE = "model.onnx"


class ModelError(ValueError):
    """A folder that cannot be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shapes and ids of one decoder. A KV buffer is `[rows, kv_heads, positions, head_dim]`."""

    layers: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    eos_ids: frozenset[int]

    @property
    def kv_names(self) -> list[tuple[str, str]]:
        """Input and output name of each KV buffer, layer by layer, key before value."""
        return [
            (f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}")
            for layer in range(self.layers)
            for kind in ("key", "value")
        ]


@dataclass(frozen=True, slots=True)
class Model:
    """An opened model. `device` is where it really runs, as its session reports."""

    folder: Path
    session: ort.InferenceSession
    spec: ModelSpec
    device: str


def load_model(folder: Path, *, device: str = "auto", threads: int = 0) -> Model:
    """Open the model in `folder`. Raises `ModelError`."""
    if not (folder / MODEL_FILE).is_file():
        raise ModelError(
            f"{folder} is not a model folder: it holds no {MODEL_FILE}; "
            f"make one with `penstock export HF_DIR {folder}`"
        )
    if device == "cuda":
        raise ModelError(
            "device cuda: this version decodes on the CPU only; start with --device cpu or auto"
        )
    config = read_json(folder / "config.json")
    session = _open_session(folder / MODEL_FILE, threads)
    return Model(folder, session, _read_spec(session, config, folder), "cpu")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `ModelError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ModelError(f"{path} is not JSON") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value


def _open_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Between two runs the pool's threads would otherwise spin on the cores that write the tokens:
    # at 16 streams on two cores the model was busy 77 % of the time, and 88 % with this.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"onnxruntime cannot open {path}: {reason}") from None


def _read_spec(session: ort.InferenceSession, config: dict[str, Any], folder: Path) -> ModelSpec:
    inputs = {node.name: node for node in session.get_inputs()}
    past = [name for name in inputs if PAST.match(name)]
    others = set(inputs) - set(past)
    if not past or others != {"input_ids", "attention_mask"}:
        raise ModelError(
            f"{folder}: unsupported inputs {sorted(others)}; "
            "make a supported file with `penstock export`"
        )
    _, kv_heads, _, head_dim = inputs[past[0]].shape
    if inputs[past[0]].type != "tensor(float)":
        raise ModelError(f"{folder}: the KV cache has type {inputs[past[0]].type}; float32 is used")
    logits = next(node for node in session.get_outputs() if node.name == "logits")
    spec = ModelSpec(
        layers=len(past) // 2,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=logits.shape[-1],
        max_positions=int(config["max_position_embeddings"]),
        eos_ids=_eos_ids(folder, config),
    )
    _check_in_place(session, spec, folder)
    return spec


def _eos_ids(folder: Path, config: dict[str, Any]) -> frozenset[int]:
    generation = folder / "generation_config.json"
    chosen = (read_json(generation) if generation.is_file() else config).get("eos_token_id")
    if chosen is None:
        chosen = config.get("eos_token_id", [])
    return frozenset([chosen] if isinstance(chosen, int) else chosen)


def _check_in_place(session: ort.InferenceSession, spec: ModelSpec, folder: Path) -> None:
    """One token over a past of eight: a present of eight means that KV is written in place."""
    feed: dict[str, Any] = {
        "input_ids": np.zeros((1, 1), np.int64),
        "attention_mask": np.ones((1, 1), np.int64),
    }
    empty = np.zeros((1, spec.kv_heads, 8, spec.head_dim), np.float32)
    names = spec.kv_names
    feed.update({past: empty for past, _ in names})
    present = session.run([names[0][1]], feed)[0]
    if present.shape[2] != 8:
        raise ModelError(
            f"{folder}: this file grows its KV cache by concatenation, which is not supported yet; "
            "export it with `penstock export`"
        )
