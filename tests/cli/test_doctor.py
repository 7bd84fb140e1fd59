"""`penstock doctor` on machines that lack something."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from penstock.build import KV_SHARE
from penstock.cli.checks import check_models, cpu_quota
from penstock.cli.providers import reason_in, why_not
from penstock.memory import available_bytes
from penstock.models import embedded_model
from penstock.settings import Settings

from .conftest import Invoke

pytestmark = pytest.mark.slow


def lines(output: str, check: str) -> list[str]:
    return [line for line in output.splitlines() if line[5:].startswith(check)]


def test_a_healthy_machine(invoke: Invoke) -> None:
    result = invoke("doctor", "--port=0")
    assert result.exit_code == 0, result.output
    assert lines(result.stdout, "providers")[-1] == "ok   providers   CPUExecutionProvider: works"
    assert "FAIL" not in result.stdout
    assert result.stderr == ""


def test_a_port_that_is_taken(invoke: Invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = invoke("doctor", f"--port={taken.getsockname()[1]}")
    assert result.exit_code == 1
    (line,) = lines(result.stdout, "address")
    assert line.startswith("FAIL")


def test_an_address_that_others_reach(invoke: Invoke) -> None:
    result = invoke("doctor", "--host=0.0.0.0", "--port=0")
    assert result.exit_code == 1
    assert "penstock keys add" in result.stdout


def test_what_does_not_open_is_named_and_the_rest_is_still_checked(
    invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("doctor", "--port=0", f"--model=a={tmp_path}", f"--model=b={embedded_model()}")
    assert result.exit_code == 1
    bad, good, memory = lines(result.stdout, "models")
    assert bad.startswith("FAIL models      model a: ")
    assert good.startswith("ok   models      model b opens")
    assert "KV cache" in memory


def test_memory_for_the_cache_is_what_serve_would_take() -> None:
    _, memory = check_models(Settings())
    assert "128 MiB for 16 slots of 1024 tokens" in memory.what
    assert available_bytes() * KV_SHARE > 128 << 20


def test_more_threads_than_cpus(invoke: Invoke) -> None:
    result = invoke("doctor", "--port=0", f"--threads={2 * (os.cpu_count() or 1)}")
    assert result.exit_code == 0
    assert "-> set --threads " in result.stdout


@pytest.mark.parametrize(
    ("text", "cpus"), [("150000 100000", 1.5), ("max 100000", float("inf")), ("", float("inf"))]
)
def test_a_containers_cpus(tmp_path: Path, text: str, cpus: float) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path / "cpu.max") == cpus


def test_a_provider_that_is_not_there() -> None:
    graph = embedded_model() / "model.onnx"
    assert why_not("CPUExecutionProvider", graph) is None
    assert why_not("CoreMLExecutionProvider", graph) is not None


def test_what_a_provider_lacks_is_found_in_what_it_said() -> None:
    said = (
        "Failed to load library x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: "
        "cannot open shared object file: No such file or directory"
    )
    assert reason_in(said) == "libcublasLt.so.13 is missing"
    assert reason_in("") == "its libraries or its device are missing"
