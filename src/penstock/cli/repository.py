"""Which files of a model repository are worth fetching: a decision about their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath

COMPANIONS = ("*.json", "*.jinja")
FOREIGN = {".gguf": "GGUF", ".bin": "PyTorch's pickles", ".pt": "PyTorch's pickles"}


class RepositoryError(ValueError):
    """There is nothing to serve, or too much to choose from; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`small` tells whether `large` can be served. `graph` is None for a checkpoint."""

    small: tuple[str, ...]
    large: tuple[str, ...]
    graph: str | None


def choose(names: Sequence[str], file: str | None = None) -> Wanted:
    """One graph with its weights, `file` if it is named, else a checkpoint's weights.

    Raises `RepositoryError`.
    """
    small = tuple(name for name in names if any(fnmatch(name, each) for each in COMPANIONS))
    graphs = sorted(name for name in names if name.endswith(".onnx"))
    if graphs or file:
        graph = _graph(graphs, file)
        return Wanted(small, (graph, *_weights_of(graph, names, graphs)), graph)
    large = tuple(name for name in names if "/" not in name and name.endswith(".safetensors"))
    if not large:
        raise RepositoryError(f"it has neither .onnx nor .safetensors files{_instead(names)}")
    return Wanted(small, large, None)


def _graph(graphs: Sequence[str], file: str | None) -> str:
    listed = ", ".join(graphs) or "none"
    if file is not None and file not in graphs:
        raise RepositoryError(f"it has no graph {file}; its graphs: {listed}")
    if file is None and len(graphs) > 1:
        raise RepositoryError(f"it has {len(graphs)} graphs; choose one with --file: {listed}")
    return file or graphs[0]


def _weights_of(graph: str, names: Sequence[str], graphs: Sequence[str]) -> list[str]:
    """Files beside the graph whose names go on behind its own: model.onnx_data, model.onnx.data."""
    return [name for name in names if name.startswith(graph) and name not in graphs]


def _instead(names: Sequence[str]) -> str:
    found = {FOREIGN[suffix] for name in names if (suffix := PurePosixPath(name).suffix) in FOREIGN}
    return f" but {', '.join(sorted(found))}, which are not served" if found else ""
