"""A model, opened: the ONNX session and all that its files say about it.

What the session itself states (names, shapes, types) and does (`layout`) wins over the configs;
those are asked only for what a graph cannot hold: context length, EOS ids, defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from penstock.engine.facts import Facts
from penstock.engine.folder import MODEL_FILE, ModelFolder, read_json
from penstock.engine.layout import Layout, Probe
from penstock.engine.signature import Signature, read_signature
from penstock.engine.spec import ModelError, ModelSpec

__all__ = ["MODEL_FILE", "Model", "ModelError", "ModelSpec", "load_model", "read_json"]


@dataclass(frozen=True, slots=True)
class Model:
    """An opened model. `device` is where it really runs, as its session reports.

    `folder` holds its companions; `file` is the graph, which may lie a folder below.
    """

    folder: Path
    file: Path
    session: ort.InferenceSession
    signature: Signature
    layout: Layout
    spec: ModelSpec
    device: str


def load_model(path: Path, *, device: str = "auto", threads: int = 0) -> Model:
    """Open the model in a folder, or the .onnx file at `path`. Raises `ModelError`."""
    folder = ModelFolder.locate(path)
    if device == "cuda":
        raise ModelError(
            "device cuda: this version decodes on the CPU only; start with --device cpu or auto"
        )
    facts = Facts(folder)
    session = _open_session(folder.graph, threads)
    signature = read_signature(session, str(folder.graph))
    kv_heads, head_dim = _cache_sizes(signature, facts, folder.graph)
    layout = Probe(session, signature, kv_heads, head_dim).layout(str(folder.graph))
    spec = ModelSpec(
        layers=len(signature.kv) // 2,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=layout.vocab_size,
        max_positions=facts.context(),
        eos_ids=facts.eos_ids(),
        kv_dtype=signature.kv_dtype,
        names=signature.kv,
        defaults=facts.defaults(),
    )
    return Model(folder.home, folder.graph, session, signature, layout, spec, "cpu")


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


def _cache_sizes(signature: Signature, facts: Facts, graph: Path) -> tuple[int, int]:
    """KV heads and head size, from the graph or, where it leaves them open, from the configs."""
    _, kv_heads, _, head_dim = signature.kv_shape
    heads = kv_heads if isinstance(kv_heads, int) else facts.kv_heads()
    size = head_dim if isinstance(head_dim, int) else facts.head_dim()
    if heads is None or size is None:
        raise ModelError(
            f"{graph} leaves the size of its KV cache open, {list(signature.kv_shape)}; "
            "put the model's config.json or genai_config.json beside it"
        )
    return heads, size
