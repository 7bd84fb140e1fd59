"""Reading safetensors: every type, several files, and clear words about damage."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penstock.export import ExportError
from penstock.export.weights import Checkpoint

from .checkpoints import safetensors, write_tensors

VALUES = np.array([[1.5, -2.0, 0.0], [3.25, 65504.0, -0.0009765625]], np.float32)
"""Numbers that all three types hold exactly, except 65504 in BF16."""


def bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("F32", VALUES), ("F16", VALUES.astype(np.float16)), ("BF16", bf16(VALUES))],
)
def test_every_type_comes_back_as_float32(
    tmp_path: Path, dtype: str, stored: NDArray[np.generic]
) -> None:
    write_tensors(tmp_path / "model.safetensors", {"pad": VALUES[:1], "x": stored}, {"x": dtype})
    got = Checkpoint.open(tmp_path).tensor("x", (2, 3))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, VALUES, rtol=0 if dtype != "BF16" else 2**-7)


def test_bf16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    every = np.arange(2**16, dtype=np.uint16)
    write_tensors(tmp_path / "a.safetensors", {"x": every}, {"x": "BF16"})
    got = Checkpoint.open(tmp_path).tensor("x", (2**16,))
    np.testing.assert_array_equal(got.view(np.uint32), every.astype(np.uint32) << 16)


def test_tensors_are_found_in_whichever_shard_holds_them(tmp_path: Path) -> None:
    for part in range(3):
        file = tmp_path / f"model-0000{part + 1}-of-00003.safetensors"
        write_tensors(file, {f"x{part}": np.full((2, 2), part, np.float32)})
    checkpoint = Checkpoint.open(tmp_path)
    assert [checkpoint.tensor(f"x{part}", (2, 2))[0, 0] for part in range(3)] == [0, 1, 2]
    assert repr(checkpoint) == "<Checkpoint of 3 tensors>"


def test_an_odd_offset_is_read_correctly(tmp_path: Path) -> None:
    whole = safetensors({"x": VALUES}, {})
    length = int.from_bytes(whole[:8], "little")
    padding = (4 - (8 + length) % 4) % 4 + 1
    header = whole[8 : 8 + length] + b" " * padding
    (tmp_path / "a.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + whole[8 + length :]
    )
    np.testing.assert_array_equal(Checkpoint.open(tmp_path).tensor("x", (2, 3)), VALUES)


def test_an_unused_tensor_of_unknown_type_does_no_harm(tmp_path: Path) -> None:
    write_tensors(
        tmp_path / "a.safetensors",
        {"x": VALUES, "ids": np.arange(3, dtype=np.int64)},
        {"ids": "I64"},
    )
    checkpoint = Checkpoint.open(tmp_path)
    np.testing.assert_array_equal(checkpoint.tensor("x", (2, 3)), VALUES)
    with pytest.raises(ExportError, match=r"tensor ids has dtype I64; supported: F32, F16, BF16"):
        checkpoint.tensor("ids", (3,))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": VALUES})
    with pytest.raises(ExportError, match=r"no tensor model\.norm\.weight"):
        Checkpoint.open(tmp_path).tensor("model.norm.weight", (3,))


def test_another_shape_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": VALUES})
    with pytest.raises(ExportError, match=r"x has shape \(2, 3\), config\.json asks for \(3, 2\)"):
        Checkpoint.open(tmp_path).tensor("x", (3, 2))


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no \*\.safetensors file in"):
        Checkpoint.open(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tensors(tmp_path / f"{name}.safetensors", {"x": VALUES})
    with pytest.raises(ExportError, match=r"b\.safetensors: tensor x is also in another file"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("kept", [0, 7, 8, 20, -1, -24])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors({"x": VALUES}, {})[:kept])
    with pytest.raises(ExportError, match=r"a\.safetensors is truncated"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("header", [b"{not json", b"\xff\xfe", b"[1, 2]"])
def test_a_header_that_is_no_json_object_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ExportError, match=r"a\.safetensors has no readable header"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [2]}, "header entry of tensor x is damaged"),
        (
            {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
            "header entry of tensor x is damaged",
        ),
        (
            {"dtype": "F32", "shape": [2], "data_offsets": [0]},
            "header entry of tensor x is damaged",
        ),
        (["F32"], "header entry of tensor x is damaged"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, r"x has 8 bytes for F32 \(3,\)"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "is truncated"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}, "is truncated"),
    ],
)
def test_a_damaged_entry_is_refused(tmp_path: Path, entry: object, message: str) -> None:
    header = json.dumps({"x": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(ExportError, match=message):
        Checkpoint.open(tmp_path)
