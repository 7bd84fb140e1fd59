"""penstock.js in Node, against a real server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from penstock.web.playground import FOLDER

from .browsers import TOOLS
from .servers import Server

TESTS = Path(__file__).parent / "penstock.test.mjs"


def missing() -> str | None:
    """What is not installed; `just test` installs it."""
    try:
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return "node"
    if int(said.stdout.lstrip("v").split(".")[0]) < 20:
        return "node 20 or later"
    return None if (TOOLS / "node_modules" / "eventsource").is_dir() else "eventsource, in .tools"


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=f"{missing()} is not installed")
def test_penstock_js(server: Server) -> None:
    where = {
        "PENSTOCK_URL": f"{server.url}/",
        "PENSTOCK_JS": (FOLDER / "penstock.js").as_uri(),
        "PENSTOCK_TOOLS": f"{TOOLS}/",
    }
    command = ["node", "--test", "--experimental-websocket", "--experimental-default-type=module"]
    with server.endings() as ended:
        done = subprocess.run(
            [*command, str(TESTS)],
            env=os.environ | where,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    # Those that were left, and the two that were asked to end; every other came to its end.
    assert (ended["disconnect"], ended["client"]) == (4, 2)
