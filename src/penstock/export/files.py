"""Write an exported model's directory: all of it or none of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from penstock.export.errors import ExportError

MODEL = "model.onnx"
EXTERNAL = "model.onnx.data"
COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)

_INLINE_BYTES = 1_500_000_000
"""Above this the weights move to a second file: protobuf ends at 2 GiB."""


def refuse_occupied(destination: Path) -> None:
    """Raise ExportError unless `destination` is absent or an empty directory."""
    if destination.is_dir() and any(destination.iterdir()):
        raise ExportError(f"{destination} is not empty; export to a new or an empty directory")
    if destination.exists() and not destination.is_dir():
        raise ExportError(f"{destination} is a file; export to a new or an empty directory")


@contextmanager
def all_or_nothing(destination: Path) -> Iterator[Path]:
    """Yield a temporary sibling that becomes `destination`, or is removed if the body raises."""
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if destination.exists():
            destination.rmdir()
        partial.rename(destination)
    except BaseException:
        shutil.rmtree(partial)
        raise


def write_model(
    model: onnx.ModelProto, directory: Path, *, inline_bytes: int = _INLINE_BYTES
) -> int:
    """Write model.onnx, with model.onnx.data beside it if large; return the bytes written."""
    weights = sum(len(each.raw_data) for each in model.graph.initializer)
    onnx.save_model(
        model,
        directory / MODEL,
        save_as_external_data=weights > inline_bytes,
        location=EXTERNAL,
    )
    return sum(file.stat().st_size for file in directory.iterdir())


def copy_companions(source: Path, destination: Path) -> None:
    """Copy the configuration and tokeniser files that are there."""
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, destination / name)
