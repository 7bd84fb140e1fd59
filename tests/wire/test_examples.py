"""Every example of the README and of docs/, run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import penstock
from penstock.cli.main import main

from .servers import Server

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
STATIC = Path(penstock.__file__).parent / "web" / "static"
DEFAULT_URL = "http://127.0.0.1:8000"
QUICK = ("generate", "models", "doctor")
"""Commands that end by themselves, soon and without a change to anything."""


def fenced(language: str) -> list[str]:
    """Blocks between fences."""
    found: list[str] = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert len(blocks) == len(re.findall(rf"```{language}\n", text)), page
        found += blocks
    return found


def shell_lines(program: str) -> Iterator[str]:
    """Command lines of `program`, indented or in a block for a shell, without their comments."""
    for page in PAGES:
        joined = page.read_text().replace("\\\n", " ")
        for line in joined.splitlines():
            if re.match(rf"(    )?{program} ", line) and not line.startswith(f"{program} is"):
                yield line.strip()


PYTHON, CURL = fenced("python"), list(shell_lines("curl"))
COMMANDS = [shlex.split(line, comments=True)[1:] for line in shell_lines("penstock")]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": str(Path(penstock.__file__).parents[1])}
    return subprocess.run(
        command, env=os.environ | path, capture_output=True, text=True, timeout=60, check=False
    )


def test_there_are_examples() -> None:
    assert (len(PYTHON), len(fenced("js"))) == (10, 1)
    assert len(CURL) >= 5
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("example", PYTHON, ids=range(len(PYTHON)))
def test_python(server: Server, example: str) -> None:
    own = example.replace(DEFAULT_URL, server.url)
    done = run([sys.executable, "-W", "error", "-c", f"URL = {server.url!r}\n{own}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout or "assert" in example


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
@pytest.mark.parametrize("line", CURL)
def test_curl(server: Server, line: str) -> None:
    job_id = server.ask("POST", "/v1/jobs", {"prompt": "Hi", "max_tokens": 5}).json["job_id"]
    own = line.replace(DEFAULT_URL, server.url).replace("localhost:8000", server.url)
    done = run(["sh", "-c", own.replace("curl ", "curl -s --fail ", 1).replace("job_…", job_id)])
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js here")
def test_javascript(server: Server, tmp_path: Path) -> None:
    (example,) = fenced("js")
    module = (STATIC / "penstock.js").as_uri()
    own = example.replace(f"{DEFAULT_URL}/static/penstock.js", module)
    own = own.replace("new Penstock()", f"new Penstock({{ base: '{server.url}/' }})")
    program = tmp_path / "example.mjs"
    program.write_text(f"{own}\nasync function show(text) {{ process.stdout.write(text); }}\n")
    done = run(["node", "--experimental-websocket", str(program)])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 20


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_has_the_options_that_it_is_shown_with(command: list[str]) -> None:
    told = CliRunner().invoke(main, [*command, "--help"])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("Usage: ")


# Not those for a machine with a GPU.
@pytest.mark.parametrize(
    "command",
    [each for each in COMMANDS if each[0] in QUICK and "cuda" not in each],
    ids=" ".join,
)
def test_a_command_that_ends_by_itself(server: Server, command: list[str]) -> None:
    own = [word.replace(DEFAULT_URL, server.url) for word in command]
    port = ["--port=0"] if command[0] == "doctor" else []
    done = run([sys.executable, "-m", "penstock", *own, *port])
    assert done.returncode == 0, done.stderr
    assert done.stdout
