"""`penstock pull` from a hub on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.repository import RepositoryError, choose
from penstock.models import embedded_model

from .hub import Hub, hub

pytestmark = pytest.mark.slow


def pull(server: Hub, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's library reads its environment when it is imported."""
    told = {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-m", "penstock", "pull", "org/name", *options],
        cwd=folder,
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The embedded model, with files that nobody needs."""
    folder = tmp_path / "repository"
    shutil.copytree(embedded_model(), folder)
    (folder / "README.md").write_text("words")
    (folder / "model.gguf").write_bytes(b"other weights")
    return folder


def test_a_model_is_fetched_checked_and_ready_to_serve(repository: Path, here: Path) -> None:
    with hub(repository) as server:
        done = pull(server, here)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "serve it with: penstock serve --model name/model.onnx\n"
    model = "model.onnx"
    assert (here / "name" / model).read_bytes() == (repository / model).read_bytes()
    assert not {"README.md", "model.gguf"} & set(server.fetched)


def test_a_dropped_connection_goes_on_where_it_was(repository: Path, here: Path) -> None:
    """The hub's library counts what came in pieces of 10 MB."""
    weights = repository / "model.onnx_data"
    weights.write_bytes(bytes(range(256)) * 60_000)
    with hub(repository) as server:
        server.cut_at[weights.name] = 14_000_000
        done = pull(server, here)
    assert done.returncode == 0, done.stderr
    ((name, asked),) = server.ranges
    assert (name, asked > "bytes=10") == (weights.name, True)
    assert (here / "name" / name).read_bytes() == weights.read_bytes()


def test_what_is_there_is_not_fetched_again(repository: Path, here: Path) -> None:
    with hub(repository) as server:
        assert pull(server, here).returncode == 0
        (here / "name" / "config.json").unlink()
        server.fetched.clear()
        assert pull(server, here).returncode == 0
    assert server.fetched == ["config.json"]


def test_weights_are_not_fetched_of_what_cannot_be_served(repository: Path, here: Path) -> None:
    (repository / "model.onnx").unlink()
    (repository / "config.json").write_text('{"model_type": "mamba"}')
    (repository / "model.safetensors").write_bytes(b"much")
    with hub(repository) as server:
        done = pull(server, here)
    assert done.returncode == 1
    assert "mamba" in done.stderr
    assert "model.safetensors" not in server.fetched


def test_a_damaged_graph_is_told(repository: Path, here: Path) -> None:
    (repository / "model.onnx").write_bytes(b"not a graph")
    with hub(repository) as server:
        done = pull(server, here)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: fetched, but not to be served: onnxruntime cannot open")


def test_a_repository_that_is_not_there_is_told_in_a_line(repository: Path, here: Path) -> None:
    with hub(repository) as server:
        absent = pull(server, here, "--revision", "nowhere")
        server.folder = repository / "empty"
        empty = pull(server, here)
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1), absent.stderr
    assert absent.stderr.startswith("Error: org/name: ")
    assert empty.stderr.count("\n") == 1
    assert "neither .onnx nor .safetensors" in empty.stderr


def test_names_are_chosen_from() -> None:
    names = ["config.json", "onnx/a.onnx", "onnx/a.onnx_data", "onnx/b.onnx", "w.safetensors"]
    with pytest.raises(RepositoryError, match="2 graphs"):
        choose(names)
    with pytest.raises(RepositoryError, match=r"no graph c\.onnx"):
        choose(names, "c.onnx")
    assert choose(names, "onnx/a.onnx").large == ("onnx/a.onnx", "onnx/a.onnx_data")
    assert choose(["config.json", "w.safetensors"]).large == ("w.safetensors",)
    with pytest.raises(RepositoryError, match="GGUF"):
        choose(["model.gguf"])
