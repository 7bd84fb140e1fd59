"""`penstock export` for a device."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.export.checkpoints import TINY, write_checkpoint

from .conftest import Invoke


def test_the_device_chooses_the_precision(tmp_path: Path, invoke: Invoke) -> None:
    write_checkpoint(tmp_path / "source", TINY)
    source = str(tmp_path / "source")
    result = invoke("export", source, str(tmp_path / "gpu"), "--device", "cuda")
    assert result.exit_code == 0, result.output
    model = onnx.load(tmp_path / "gpu" / "model.onnx")
    assert {each.key: each.value for each in model.metadata_props}["dtype"] == "fp16"


@pytest.mark.parametrize(
    ("device", "dtype", "said"),
    [
        ("cuda", "int4", "--device cuda takes --dtype fp16, bf16; not int4"),
        ("cpu", "bf16", "--device cpu takes --dtype int8row, int8, int4, fp32, fp16; not bf16"),
    ],
)
def test_a_precision_that_the_device_has_not_is_refused(
    tmp_path: Path, invoke: Invoke, device: str, dtype: str, said: str
) -> None:
    write_checkpoint(tmp_path / "source", TINY)
    source, target = str(tmp_path / "source"), str(tmp_path / "x")
    refused = invoke("export", source, target, f"--device={device}", f"--dtype={dtype}")
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.split())


def test_bfloat16_is_for_cuda(tmp_path: Path, invoke: Invoke) -> None:
    write_checkpoint(tmp_path / "source", TINY)
    source, target = str(tmp_path / "source"), str(tmp_path / "gpu")
    result = invoke("export", source, target, "--device=cuda", "--dtype=bf16")
    assert result.exit_code == 0, result.output
    model = onnx.load(tmp_path / "gpu" / "model.onnx")
    assert {each.key: each.value for each in model.metadata_props}["dtype"] == "bf16"
