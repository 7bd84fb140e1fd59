"""A model, opened: the ONNX session and all that its files say about it.

What the session itself states (names, shapes, types) and does (`layout`) wins over the configs;
those are asked only for what a graph cannot hold: context length, EOS ids, defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from penstock.engine.captures import graph_ids
from penstock.engine.cuda import CudaMemory
from penstock.engine.cuda_lack import explain
from penstock.engine.cudart import Cudart
from penstock.engine.facts import Facts
from penstock.engine.folder import MODEL_FILE, ModelFolder, read_json
from penstock.engine.layout import Layout, Probe
from penstock.engine.memory import HOST, Memory
from penstock.engine.session import WITHOUT, CudaError, open_on_cpu, open_on_cuda
from penstock.engine.signature import Signature, read_signature
from penstock.engine.spec import ModelError, ModelSpec

__all__ = [
    "MODEL_FILE",
    "CudaError",
    "Model",
    "ModelError",
    "ModelSpec",
    "load_model",
    "read_json",
]


@dataclass(frozen=True, slots=True)
class Model:
    """An opened model. `device` is where it really runs, as its session reports.

    `folder` holds its companions; `file` is the graph, which may lie a folder below. `memory` is
    where its cache lies. `shortlist` counts the likeliest tokens that its graph names for each row,
    0 where it gives logits only. Steps of up to `capture_rows` rows may be captured, each under the
    next of `graph_ids`.
    """

    folder: Path
    file: Path
    session: ort.InferenceSession
    signature: Signature
    layout: Layout
    spec: ModelSpec
    device: str
    memory: Memory = HOST
    shortlist: int = 0
    capture_rows: int = 0
    graph_ids: Iterator[int] = field(default_factory=graph_ids)


def load_model(
    path: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    threads: int = 0,
    capture_rows: int = 0,
) -> Model:
    """Open the model in a folder, or the .onnx file at `path`; a CPU captures no steps.

    Raises `ModelError`; `CudaError`, which is one, where it is `device` that fails.
    """
    folder = ModelFolder.locate(path)
    facts = Facts(folder)
    if device == "cuda":
        return _on_cuda(folder, facts, threads, capture_rows)
    session = open_on_cpu(folder.graph, threads)
    signature = read_signature(session, str(folder.graph))
    kv_heads, head_dim = _cache_sizes(signature, facts, folder.graph)
    layout = Probe(session, signature, kv_heads, head_dim).layout(str(folder.graph))
    spec = _spec(signature, layout, facts, folder)
    return Model(folder.home, folder.graph, session, signature, layout, spec, "cpu")


def _on_cuda(folder: ModelFolder, facts: Facts, threads: int, capture_rows: int) -> Model:
    # It takes onnx, whose 0.2 s a start on the CPU need not wait for.
    from penstock.engine.device_graph import MASK, DeviceGraph

    graph = DeviceGraph(folder.graph)
    if lack := graph.lack():
        raise CudaError(lack, folder.graph)
    session = open_on_cuda(folder.graph, graph.ready(), threads, captures=capture_rows > 0)
    signature = read_signature(session, str(folder.graph), on_cuda=True)
    if capture_rows and MASK in signature.tokens:
        raise ModelError(f"CUDA graphs: {folder.graph} asks for a mask that grows; {WITHOUT}")
    spec = _spec(signature, graph.layout, facts, folder)
    return Model(
        folder.home,
        folder.graph,
        session,
        signature,
        graph.layout,
        spec,
        "cuda",
        _cuda_memory(folder.graph),
        graph.width,
        capture_rows,
    )


def _cuda_memory(graph: Path) -> CudaMemory:
    try:
        return CudaMemory(Cudart.load())
    except OSError as error:
        raise CudaError(explain(f"error: {error}"), graph) from None


def _spec(signature: Signature, layout: Layout, facts: Facts, folder: ModelFolder) -> ModelSpec:
    kv_heads, head_dim = _cache_sizes(signature, facts, folder.graph)
    return ModelSpec(
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
