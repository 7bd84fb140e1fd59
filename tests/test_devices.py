"""--device with the GPU package of onnxruntime on a machine that has no GPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.devices import Opener, lack_of_cuda, why_not
from penstock.engine.cuda_lack import NO_DRIVER, NOT_BUILT
from penstock.engine.model import ModelError, load_model
from penstock.engine.session import CUDA, CudaError, open_on_cuda, providers
from penstock.export import Dtype, export_model
from penstock.models import embedded_model
from tests.export.checkpoints import TINY, write_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lack_of_cuda() is None, reason="there is a GPU here"),
]
built = pytest.mark.skipif(CUDA not in providers(), reason="onnxruntime was built without CUDA")


def test_auto_runs_on_the_cpu_and_says_why_in_one_line() -> None:
    lines: list[str] = []
    model = Opener("auto", 1, lines.append).open("default", embedded_model())
    assert model.device == "cpu"
    (line,) = lines
    assert line.startswith("running on the CPU: ")
    assert line.endswith(" (`penstock doctor` tells more)")
    assert "\n" not in line


def test_the_line_is_told_once_and_not_before_an_error(tmp_path: Path) -> None:
    lines: list[str] = []
    opener = Opener("auto", 1, lines.append)
    with pytest.raises(ModelError):
        opener.open("none", tmp_path)
    assert lines == []
    for name in ("a", "b"):
        opener.open(name, embedded_model())
    assert len(lines) == 1


def test_cpu_is_what_was_asked_for_and_says_nothing() -> None:
    lines: list[str] = []
    assert Opener("cpu", 1, lines.append).open("default", embedded_model()).device == "cpu"
    assert lines == []


def test_cuda_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match=r"device cuda: .*(driver|without CUDA).*--device cpu"):
        Opener("cuda", 1, lambda line: None)


def test_what_is_missing_is_known_without_an_attempt() -> None:
    assert lack_of_cuda() in (NO_DRIVER, NOT_BUILT)


@built
def test_an_attempt_finds_what_is_missing() -> None:
    """Whichever library the loader looks for first: the driver's or one of CUDA's."""
    lack = why_not(CUDA)
    assert lack is not None
    assert "missing" in lack.what or lack == NO_DRIVER


@built
def test_a_session_that_fell_back_is_not_taken_for_one_on_cuda(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """onnxruntime opens it on the CPU and raises nothing."""
    graph = embedded_model() / "model.onnx"
    with pytest.raises(CudaError, match="penstock doctor") as caught:
        open_on_cuda(graph, graph.read_bytes(), threads=1)
    assert caught.value.lack is None
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cuda_has_no_kernels_for_is_refused_before_cuda_is_tried() -> None:
    with pytest.raises(CudaError, match=r"float32.*penstock export --device cuda"):
        load_model(embedded_model(), device="cuda")


@pytest.fixture
def with_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has a driver, so that CUDA is tried; its libraries are missing."""
    monkeypatch.setattr("penstock.devices.lack_of_cuda", lambda: None)


def exported(tmp_path: Path, dtype: Dtype) -> Path:
    config = {**TINY, "max_position_embeddings": 64}
    write_checkpoint(tmp_path / "source", config)
    export_model(tmp_path / "source", tmp_path / "out", dtype=dtype)
    return tmp_path / "out"


@pytest.fixture
def in_float16(tmp_path: Path) -> Path:
    return exported(tmp_path, "fp16")


@built
@pytest.mark.usefixtures("with_a_driver")
def test_a_session_that_fell_back_is_explained_and_opened_on_the_cpu(in_float16: Path) -> None:
    lines: list[str] = []
    model = Opener("auto", 1, lines.append).open("small", in_float16)
    assert (model.device, model.shortlist) == ("cpu", 0)
    (line,) = lines
    assert re.fullmatch(
        r"small runs on the CPU: (lib\S+ is missing|there is no NVIDIA .*); .+", line
    )
    with pytest.raises(ModelError, match=r"device cuda: .*(missing|driver).*--device cpu"):
        Opener("cuda", 1, lines.append).open("small", in_float16)


@built
@pytest.mark.usefixtures("with_a_driver")
def test_a_model_that_no_cpu_runs_is_refused_with_what_cuda_lacks(tmp_path: Path) -> None:
    """Where CUDA fails, onnxruntime goes to the CPU, and has no kernels there to tell of it."""
    folder = exported(tmp_path, "bf16")
    with pytest.raises(ModelError, match=r"device cuda: .*(missing|driver).*--device cpu"):
        Opener("cuda", 1, lambda line: None).open("small", folder)
    lines: list[str] = []
    with pytest.raises(ModelError, match="bfloat16, for which the CPU has no kernels"):
        Opener("auto", 1, lines.append).open("small", folder)
    (line,) = lines
    assert re.match(r"small runs on the CPU: (lib\S+ is missing|there is no NVIDIA)", line)


@built
def test_captured_steps_are_asked_for_and_not_had_without_a_device(in_float16: Path) -> None:
    with pytest.raises(CudaError, match="penstock doctor"):
        load_model(in_float16, device="cuda", capture_rows=8)


@pytest.mark.usefixtures("with_a_driver")
def test_a_model_that_cuda_does_not_run_is_run_on_the_cpu() -> None:
    lines: list[str] = []
    assert Opener("auto", 1, lines.append).open("default", embedded_model()).device == "cpu"
    assert lines[0].startswith("default runs on the CPU: the model computes attention in float32")
    assert "penstock export --device cuda" in lines[0]


@pytest.mark.usefixtures("with_a_driver")
def test_a_damaged_model_is_no_matter_of_cuda(in_float16: Path) -> None:
    (in_float16 / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="onnx cannot read"):
        Opener("cuda", 1, lambda line: None).open("small", in_float16)


@pytest.mark.wire
def test_a_server_that_cannot_have_cuda_does_not_open_its_port() -> None:
    command = [sys.executable, "-m", "penstock", "serve", "--port", "0", "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: device cuda: ")
    assert len(done.stderr.splitlines()) == 1
