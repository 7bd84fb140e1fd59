"""`penstock export` for a device."""

from __future__ import annotations

from pathlib import Path

import onnx

from tests.export.checkpoints import TINY, write_checkpoint

from .conftest import Invoke


def test_the_device_chooses_the_precision(tmp_path: Path, invoke: Invoke) -> None:
    write_checkpoint(tmp_path / "source", TINY)
    source = str(tmp_path / "source")
    result = invoke("export", source, str(tmp_path / "gpu"), "--device", "cuda")
    assert result.exit_code == 0, result.output
    model = onnx.load(tmp_path / "gpu" / "model.onnx")
    assert {each.key: each.value for each in model.metadata_props}["dtype"] == "fp16"
    refused = invoke("export", source, str(tmp_path / "x"), "--device=cuda", "--dtype=int4")
    assert refused.exit_code == 2
    assert "--device cuda takes --dtype fp16, not int4" in refused.output
