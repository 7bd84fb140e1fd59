"""Documents that are generated or that others rely on are what they say."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.test_clients import CLIENTS
from tests.clients.test_fuzz import FUZZER
from tests.clients.test_tabby_agent import AGENT
from tests.jobs.conftest import require_redis

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_settings_page_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_settings.py"))["page"]()
    assert (ROOT / "docs" / "settings.md").read_text() == page, "run `just docs`"


@pytest.mark.parametrize(
    "command",
    ["serve", "generate", "export", "bench", "chat", "models", "completion", "doctor", "pull"],
)
def test_every_command_explains_itself(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Usage: ")


def test_the_readme_has_the_two_commands() -> None:
    assert (
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/penstock serve\n" in README
    )
    test = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/just test\n"
    assert test in README
    assert "grep -m1 -F 'just test' README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_file_that_a_document_links_to_exists() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]:
        for part in document.read_text().split("](")[1:]:
            target = part.split(")")[0].split("#")[0]
            if target and "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_no_line_names_a_package_registry() -> None:
    """Where packages come from is the reader's business."""
    hosts = [
        ".".join(name) for name in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))
    ]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in tracked:
        if (ROOT / name).is_file():
            found = (ROOT / name).read_bytes()
            assert not [host for host in hosts if host.encode() in found], name


@pytest.mark.heavy
@pytest.mark.parametrize(
    "command",
    [
        ["delivered.py", "--streams", "2", "--tokens", "4", "--rounds", "1"],
        ["prefill.py", "--chunks", "64", "--rounds", "1"],
        ["overhead.py", "--rounds", "1", "--repeats", "1", "--requests", "20"],
        ["jobs.py", "--jobs", "80", "--clients", "2", "--grown-mib", "100"],
        ["grammar.py", "--tokens", "4", "--rounds", "1"],
        ["gaps.py", "--tokens", "300", "--rounds", "1", "--prompts", "64"],
    ],
    ids=lambda command: command[0],
)
def test_the_benchmarks_run(command: list[str]) -> None:
    """What they measure is for a quiet machine; that they measure is for every commit."""
    script, *options = command
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3


@pytest.mark.slow
@pytest.mark.heavy
def test_the_benchmark_of_redis_runs() -> None:
    require_redis()
    few = ["--fsync", "no", "--writers", "1", "--jobs", "2", "--seconds", "0.2", "--kept", "5"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "redis_node.py"), *few],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| no | 1 × 2 |") == 2


@pytest.mark.heavy
def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path: Path) -> None:
    """All of it but the device: the same script, code and peers' pipe on a tiny shape."""
    command = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--device", "cpu", "--smoke"]
    done = subprocess.run(
        [*command, "--work", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())["shapes"]["tiny"]
    assert set(found.get("failed", {})) <= {"transformers", "torch"}
    assert "skipped" not in found
    facts = found["facts"]
    assert facts["prefix_binding"]["parked_rows_untouched"]
    assert facts["prefix_binding"]["largest_difference"] == 0
    assert facts["leftovers_do_not_matter"]
    assert set(facts["batch_invariance"].values()) == {0.0}
    assert not facts["several_rows_of_several_tokens"]["works"]
    assert not [name for name, answer in facts.items() if "failed" in str(answer)]
    for name in ("penstock", "captured"):
        assert found["tokens_s"][name].keys() == {"1", "4"}
    assert found["about_captured"]["captured"] == []  # there are no CUDA graphs on a CPU
    assert found["first_token_s"]["penstock"].keys() == {"64"}
    assert found["delivered"]["2"].keys() == {"bare", "http", "ratio"}
    assert (tmp_path / "gpu.svg").read_text().startswith("<svg")


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 120


def test_the_clients_page_names_every_client_and_its_version() -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for client in (*CLIENTS, FUZZER, AGENT):
        name, _, version = client.packages[0].replace("==", "@").rpartition("@")
        assert any(name in row and version in row for row in rows), client.packages[0]
