"""The examples of docs/client.md and of the README, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire.servers import Server

pytestmark = pytest.mark.wire

ROOT = Path(__file__).parents[2]


def examples(name: str) -> list[str]:
    page = (ROOT / name).read_text()
    found = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(found) == page.count("```python")
    return [example for example in found if "penstock.client" in example]


EXAMPLES = [*examples("docs/client.md"), *examples("README.md")]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(server: Server, example: str) -> None:
    own = example.replace("http://127.0.0.1:8000", server.url)
    program = f"URL = {server.url!r}\n{own}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout or "assert" in example
