"""Clients in environments of their own: they and what they need do not agree on versions.

An environment is made once and kept in `$CLIENTS_CACHE`, else in the user's cache, under a name
that changes with the pinned versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("CLIENTS_CACHE", Path.home() / ".cache" / "penstock-clients"))
INSTALL_S = 600


@dataclass(frozen=True)
class Client:
    """A program that asks a server, in Python or for Node, and the packages that it needs."""

    driver: str
    packages: tuple[str, ...]
    patience_s: float = 60

    @property
    def name(self) -> str:
        return self.packages[0].lstrip("@").replace("/", "-")

    def run(self, url: str, case: str) -> Any:  # noqa: ANN401
        """What the driver says of `case`."""
        folder = self._environment()
        done = subprocess.run(
            [*self._command(folder), url, case],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=self.patience_s,
            check=False,
            # Some keep settings and histories at home.
            env=_variables() | {"HOME": str(folder)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def _command(self, folder: Path) -> list[str | Path]:
        if self.driver.endswith(".py"):
            return [folder / "bin" / "python", "-W", "ignore", HERE / "python" / self.driver]
        # Node looks for packages beside the file that imports them.
        for script in (HERE / "node").glob("*.mjs"):
            shutil.copy(script, folder)
        return ["node", "--no-warnings", folder / self.driver]

    def _environment(self) -> Path:
        digest = hashlib.sha256("\n".join(self.packages).encode()).hexdigest()[:8]
        folder = CACHE / f"{self.name}-{digest}"
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._install(folder)
            (folder / "complete").touch()
        return folder

    def _install(self, folder: Path) -> None:
        if self.driver.endswith(".py"):
            _call(folder, sys.executable, "-m", "venv", folder)
            pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
            _call(folder, *pip, "--disable-pip-version-check", *self.packages)
        else:
            (folder / "package.json").write_text('{"private": true, "type": "module"}')
            _call(folder, "npm", "install", "--silent", "--no-audit", "--no-fund", *self.packages)


def _call(folder: Path, *command: str | Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=_variables(),
        timeout=INSTALL_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _variables() -> dict[str, str]:
    """This environment without what pins or finds the packages of our own."""
    ours = {"PIP_CONSTRAINT", "PYTHONPATH", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in ours} | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TABBY_DISABLE_USAGE_COLLECTION": "1",
    }
