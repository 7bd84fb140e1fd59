"""Read a safetensors checkpoint one tensor at a time.

A checkpoint is a directory with one or more ``*.safetensors`` files. Only the headers are read
until a tensor is asked for; whatever its stored type, it comes back as float32. Knows no model.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from penstock.export.errors import ExportError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_LENGTH_BYTES = 8
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def _from_f32(raw: Bytes) -> Floats:
    return raw.view("<f4").astype(np.float32)


def _from_f16(raw: Bytes) -> Floats:
    return raw.view("<f2").astype(np.float32)


def _from_bf16(raw: Bytes) -> Floats:
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


_DECODERS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _from_f32,
    "F16": _from_f16,
    "BF16": _from_bf16,
}


class Tensors(Protocol):
    """Where a decoder's weights come from."""

    def tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Tensor `name` as float32; ExportError if there is none of that shape."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where one tensor lies; `raw` is a view into the mapped file."""

    dtype: str
    shape: tuple[int, ...]
    raw: Bytes


class Checkpoint:
    """The tensors of one checkpoint directory, by name."""

    def __init__(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Map every safetensors file; ExportError if there is none or one of them is damaged."""
        files = sorted(directory.glob("*.safetensors"))
        if not files:
            raise ExportError(f"no *.safetensors file in {directory}")
        entries: dict[str, _Entry] = {}
        for file in files:
            found = _entries(file)
            if twice := entries.keys() & found.keys():
                raise ExportError(f"{file.name}: tensor {min(twice)} is also in another file")
            entries |= found
        return cls(entries)

    def __repr__(self) -> str:
        return f"<Checkpoint of {len(self._entries)} tensors>"

    def tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Return tensor `name` as float32; ExportError if absent, misshapen or of unknown type."""
        entry = self._entries.get(name)
        if entry is None:
            raise ExportError(f"the checkpoint has no tensor {name}")
        if entry.shape != shape:
            raise ExportError(
                f"tensor {name} has shape {entry.shape}, config.json asks for {shape}"
            )
        if entry.dtype not in _DECODERS:
            raise ExportError(
                f"tensor {name} has dtype {entry.dtype}; supported: {', '.join(_DECODERS)}"
            )
        return _DECODERS[entry.dtype](entry.raw).reshape(shape)


def _entries(file: Path) -> dict[str, _Entry]:
    header, data = _split(file)
    return {
        name: _entry(file.name, name, about, data)
        for name, about in header.items()
        if name != "__metadata__"
    }


def _split(file: Path) -> tuple[dict[str, Any], Bytes]:
    """Return the parsed header of `file` and the mapped bytes that follow it."""
    size = file.stat().st_size
    if size < _LENGTH_BYTES:
        raise ExportError(f"{file.name} is truncated: {size} bytes")
    mapped = np.memmap(file, np.uint8, "r")
    start = _LENGTH_BYTES + int.from_bytes(mapped[:_LENGTH_BYTES].tobytes(), "little")
    if start > size:
        raise ExportError(f"{file.name} is truncated: its header should end at byte {start}")
    return _parse(file.name, mapped[_LENGTH_BYTES:start].tobytes()), mapped[start:]


def _parse(file: str, header: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(header)
    except ValueError as error:
        raise ExportError(f"{file} has no readable header: {error}") from error
    if not isinstance(parsed, dict):
        raise ExportError(f"{file} has no readable header: it is not a JSON object")
    return parsed


def _entry(file: str, name: str, about: Mapping[str, Any], data: Bytes) -> _Entry:
    try:
        dtype, shape = str(about["dtype"]), tuple(int(n) for n in about["shape"])
        start, end = (int(n) for n in about["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{file}: the header entry of tensor {name} is damaged") from error
    if not 0 <= start <= end <= data.size:
        raise ExportError(
            f"{file} is truncated: tensor {name} should end at byte {end} of the data"
        )
    if dtype in _ITEM_BYTES and end - start != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ExportError(f"{file}: tensor {name} has {end - start} bytes for {dtype} {shape}")
    return _Entry(dtype, shape, data[start:end])
