"""The commands, run: what they print, where, and how they exit."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result

from penstock import __version__
from penstock.models import embedded_model
from tests.export.checkpoints import TINY, write_checkpoint

from .conftest import Invoke


def one_line(result: Result, *, code: int = 1) -> str:
    """The last line on standard error, of a command that failed as it should."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    *before, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert not any(line.startswith("Error") for line in before)
    return last


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model's small files, without the model."""
    copy = tmp_path / "copy"
    shutil.copytree(embedded_model(), copy, ignore=shutil.ignore_patterns("*.onnx"))
    return copy


def test_version(invoke: Invoke) -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"penstock, version {__version__}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_the_commands(invoke: Invoke, flag: str) -> None:
    result = invoke(flag)
    assert result.exit_code == 0
    for command in ("serve", "generate", "export", "bench"):
        assert f"\n  {command} " in result.stdout
        assert invoke(command, flag).stdout.startswith(f"Usage: penstock {command} ")
    assert "..." not in result.stdout.replace("[ARGS]...", "")


def test_an_unknown_command_is_an_error(invoke: Invoke) -> None:
    assert "frobnicate" in one_line(invoke("frobnicate"), code=2)


def test_generate_is_greedy_at_temperature_zero(invoke: Invoke) -> None:
    asked = ("generate", "Once upon a time", "--max-tokens", "8", "--temperature", "0")
    first, second = invoke(*asked), invoke(*asked, "--seed", "5")
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.startswith("Once upon a time")
    assert first.stdout.endswith("\n")
    assert len(first.stdout) > len("Once upon a time\n")
    assert first.stdout == second.stdout


def test_generate_fills_a_gap(invoke: Invoke) -> None:
    asked = ("generate", "def add(a, b):\n", "--max-tokens", "8", "--temperature", "0")
    before, filled = invoke(*asked), invoke(*asked, "--suffix", "\nprint(add(1, 2))\n")
    assert before.exit_code == filled.exit_code == 0
    assert filled.output.startswith("def add(a, b):\n")
    assert filled.output != before.output


@pytest.mark.slow
def test_generate_gives_the_same_text_for_the_same_seed(invoke: Invoke) -> None:
    asked = ("generate", "Once", "--max-tokens", "24", "--temperature", "1", "--seed")
    first, second, other = invoke(*asked, "3"), invoke(*asked, "3"), invoke(*asked, "4")
    assert first.stdout == second.stdout != other.stdout


def test_a_chat_answer_does_not_repeat_the_question(invoke: Invoke) -> None:
    result = invoke("generate", "--chat", "Tell me a story.", "--max-tokens", "4", "--seed", "1")
    assert result.exit_code == 0
    assert result.stdout.strip()
    assert not result.stdout.startswith("Tell me a story.")


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_printed(invoke: Invoke) -> None:
    asked = ("generate", "Once upon a time", "--max-tokens", "9", "--max-len", "8")
    assert "maximum context length is 8 tokens" in one_line(invoke(*asked))


def test_generate_fills_no_gap_in_a_chat(invoke: Invoke) -> None:
    result = invoke("generate", "--chat", "Hello", "--suffix", "x")
    assert "--suffix goes with a text, not with --chat" in one_line(result, code=2)


@pytest.mark.slow
def test_generate_prints_the_text_and_nothing_else() -> None:
    asked = [sys.executable, "-m", "penstock", "generate", "Once", "--max-tokens", "1"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
def test_generate_says_that_the_disk_is_full() -> None:
    asked = [sys.executable, "-m", "penstock", "generate", "Once", "--max-tokens", "8"]
    with open("/dev/full", "wb") as disk:
        done = subprocess.run(asked, stdout=disk, stderr=subprocess.PIPE, timeout=60, check=False)
    told = b"Error: cannot write the text: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.slow
def test_generate_ends_quietly_when_nobody_reads_its_output() -> None:
    command = "from penstock.cli.main import main; main()"
    reading, writing = os.pipe()
    os.close(reading)
    asked = [sys.executable, "-c", command, "generate", "Once", "--max-tokens", "8"]
    done = subprocess.run(asked, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--temperature", "nan"], "'--temperature': this is not a number"),
        (["--temperature", "2.5"], "'--temperature': 2.5 is not in the range"),
        (["--max-tokens", "0"], "'--max-tokens': 0 is not in the range"),
        (["--seed", "-1"], "'--seed': -1 is not in the range"),
        (["--seed", str(2**63)], "is not in the range"),
        (["--device", "tpu"], "'--device': 'tpu' is not one of"),
        (["--max-len", "-1"], "max_len: expected int >= 0"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_generate_names_what_is_wrong(invoke: Invoke, arguments: list[str], told: str) -> None:
    assert told in one_line(invoke("generate", "Once", *arguments), code=2)


def test_a_prompt_that_is_not_utf8_is_refused(invoke: Invoke) -> None:
    told = one_line(invoke("generate", b"\xff".decode("utf-8", "surrogateescape")), code=2)
    assert told == "Error: Invalid value for 'PROMPT': this is not UTF-8"


@pytest.mark.parametrize("command", [["generate", "Once"], ["serve"]])
def test_a_folder_without_a_model_is_named(
    invoke: Invoke, command: list[str], tmp_path: Path, folder: Path
) -> None:
    for path in (tmp_path, folder):
        told = one_line(invoke(*command, "--model", str(path)))
        assert f"{path} is not a model folder" in told
    none = tmp_path / "none"
    assert f"{none} does not exist" in one_line(invoke(*command, "--model", str(none)))


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_model_that_is_none_is_named(invoke: Invoke, folder: Path, content: bytes) -> None:
    (folder / "model.onnx").write_bytes(content)
    assert str(folder) in one_line(invoke("generate", "Once", "--model", str(folder)))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_broken_file_beside_the_model_is_named(invoke: Invoke, folder: Path, name: str) -> None:
    (folder / "model.onnx").symlink_to(embedded_model() / "model.onnx")
    (folder / name).write_text("{")
    assert str(folder / name) in one_line(invoke("generate", "Once", "--model", str(folder)))


def test_export_names_what_is_missing(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    out = str(tmp_path / "out")
    none = str(tmp_path / "none")
    assert one_line(invoke("export", none, out)) == f"Error: no config.json in {none}"
    assert "no *.safetensors" in one_line(invoke("export", str(folder), out))
    (folder / "config.json").write_text('{"model_type": "other"}')
    assert "model_type = 'other'" in one_line(invoke("export", str(folder), out))
    assert not Path(out).exists()


def test_export_names_a_destination_that_cannot_be_used(
    invoke: Invoke, tmp_path: Path, folder: Path
) -> None:
    assert "is not empty" in one_line(invoke("export", str(folder), str(folder)))
    file = folder / "config.json"
    assert "is a file" in one_line(invoke("export", str(folder), str(file)))
    one_line(invoke("export", str(folder), str(tmp_path / ("x" * 300))))


def test_export_that_cannot_be_written_names_where(tmp_path: Path) -> None:
    """A limit on a file's size stands for a full disk: neither error names a file."""
    write_checkpoint(tmp_path / "source", TINY)
    command = [sys.executable, "-m", "penstock", "export", "source", "out"]
    limited = ["bash", "-c", f"ulimit -f 8; exec {shlex.join(command)}"]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Error: cannot write out: File too large" in done.stderr
    assert not (tmp_path / "out").exists()


def test_export_refuses_an_unknown_precision(invoke: Invoke) -> None:
    assert "'--dtype'" in one_line(invoke("export", "a", "b", "--dtype", "int1"), code=2)


def test_nothing_is_kept_of_what_was_used(tmp_path: Path) -> None:
    """onnxruntime keeps a database of its use in the home folder, to be sent to its maker."""
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "penstock", "generate", "Once", "--max-tokens=1"]
    subprocess.run(command, env={**os.environ, **home}, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []
