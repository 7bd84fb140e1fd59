"""`penstock pull` from a hub on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

import penstock
from penstock.cli.download import is_same
from penstock.cli.repository import RepositoryError, choose
from penstock.models import embedded_model
from tests.wire.servers import wait_until

from .hub import Hub, hub

pytestmark = pytest.mark.heavy


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "penstock", "pull", "org/name", *options]


def environment(server: Hub, folder: Path) -> dict[str, str]:
    """For a process of its own: the hub's library reads it when it is imported."""
    told = {"HF_ENDPOINT": server.url, "HF_HOME": str(folder / "home")}
    return os.environ | told | {"PYTHONPATH": str(Path(penstock.__file__).parents[1])}


def pull(server: Hub, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options),
        cwd=folder,
        env=environment(server, folder),
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


def test_a_pull_that_was_killed_goes_on_where_it_was(repository: Path, here: Path) -> None:
    weights = repository / "model.onnx_data"
    weights.write_bytes(bytes(range(256)) * 60_000)

    def parts() -> list[Path]:
        return list((here / "name").glob(f"{weights.name}.*.part"))

    with hub(repository) as server:
        server.halts.set()
        server.cut_at[weights.name] = 14_000_000
        with subprocess.Popen(command(), cwd=here, env=environment(server, here)) as killed:
            try:
                wait_until(lambda: any(part.stat().st_size for part in parts()), "part")
            finally:
                killed.kill()
        (file,) = parts()
        fetched = file.stat().st_size
        server.fetched.clear()
        done = pull(server, here)
    assert done.returncode == 0, done.stderr
    assert server.ranges == [(weights.name, f"bytes={fetched}-")]
    assert server.fetched == [weights.name]
    assert (here / "name" / weights.name).read_bytes() == weights.read_bytes()
    assert not file.exists()


def test_what_comes_damaged_is_not_kept(repository: Path, here: Path) -> None:
    with hub(repository) as server:
        server.spoils.add("model.onnx")
        done = pull(server, here)
        assert done.stderr == "Error: model.onnx came damaged; fetch it again\n"
        assert not list((here / "name").glob("*.part"))
        server.spoils.clear()
        assert pull(server, here).returncode == 0


def test_what_was_changed_here_is_fetched_again(repository: Path, here: Path) -> None:
    with hub(repository) as server:
        assert pull(server, here).returncode == 0
        (here / "name" / "config.json").write_text("{}")
        server.fetched.clear()
        assert pull(server, here).returncode == 0
    assert server.fetched == ["config.json"]


def test_a_small_files_etag_is_gits(tmp_path: Path) -> None:
    """As `git hash-object` gives it."""
    (tmp_path / "file").write_bytes(b"hello\n")
    assert is_same(tmp_path / "file", "ce013625030ba8dba906f756967f9e9ca394464a")
    assert not is_same(tmp_path / "file", "0" * 40)


def test_progress_is_shown_on_a_terminal_and_nowhere_else(repository: Path, here: Path) -> None:
    with hub(repository) as server:
        assert "%" not in pull(server, here).stderr
        shutil.rmtree(here / "name")
        name, *arguments = command()
        terminal = pexpect.spawn(
            name, arguments, cwd=here, env=environment(server, here), timeout=60, encoding="utf-8"
        )
        try:
            terminal.expect(r"model\.onnx: +100%\|.*\| [\d.]+M/[\d.]+M ")
            terminal.expect_exact("serve it with: penstock serve")
        finally:
            terminal.close(force=True)


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
