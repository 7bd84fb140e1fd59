"""Where a model's files lie: the graph that was chosen, and the files that describe it.

Three layouts are met in the wild: everything in one folder, with the graph's name in
`genai_config.json` or `model.onnx` by custom; or the graphs in a folder `onnx/` and all else above.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from penstock.engine.spec import ModelError

MODEL_FILE = "model.onnx"
SUBFOLDER = "onnx"
GENAI_CONFIG = "genai_config.json"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """`graph` is the file to open; `folders` hold its companions, the nearest first."""

    graph: Path
    folders: tuple[Path, ...]

    @classmethod
    def locate(cls, path: Path) -> Self:
        """From a folder, or from the path of one .onnx file. Raises `ModelError`."""
        graph = path if path.is_file() and path.suffix == ".onnx" else _graph_in(path)
        here = graph.parent
        return cls(graph, (here, here.parent) if here.name == SUBFOLDER else (here,))

    @property
    def home(self) -> Path:
        """The folder that users name: the one with the tokenizer and the configs."""
        return self.folders[-1]

    def find(self, name: str) -> Path | None:
        """The nearest file of that name, if there is one."""
        return next((f / name for f in self.folders if (f / name).is_file()), None)

    def json(self, name: str) -> dict[str, Any]:
        """The object in the nearest file of that name; empty if there is none."""
        path = self.find(name)
        return read_json(path) if path else {}


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


def _graph_in(folder: Path) -> Path:
    if (folder / GENAI_CONFIG).is_file():
        return _named_by_genai(folder)
    if (folder / MODEL_FILE).is_file():
        return folder / MODEL_FILE
    return _only_one(folder, _candidates(folder) or _candidates(folder / SUBFOLDER))


def _candidates(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.onnx"))


def _only_one(folder: Path, candidates: list[Path]) -> Path:
    if not folder.exists():
        raise ModelError(f"{folder} does not exist; give a model folder or an .onnx file")
    if not candidates:
        raise ModelError(
            f"{folder} is not a model folder: it holds no {MODEL_FILE}; "
            f"make one with `penstock export HF_DIR {folder}`"
        )
    if len(candidates) > 1:
        names = ", ".join(path.name for path in candidates)
        raise ModelError(
            f"{folder} holds {len(candidates)} models ({names}); "
            f"choose one by its file: --model {candidates[-1]}"
        )
    return candidates[0]


def _named_by_genai(folder: Path) -> Path:
    model = read_json(folder / GENAI_CONFIG).get("model")
    decoder = model.get("decoder") if isinstance(model, dict) else None
    name = decoder.get("filename") if isinstance(decoder, dict) else None
    if not isinstance(name, str):
        raise ModelError(
            f"{folder / GENAI_CONFIG} names no model.decoder.filename; only single decoders are "
            "served, not pipelines or encoder-decoders"
        )
    if not (folder / name).is_file():
        raise ModelError(f"{folder} lacks {name}, which its {GENAI_CONFIG} names")
    return folder / name
