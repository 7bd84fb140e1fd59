"""Commands run in this process, with a clean environment and a fixed width."""

from __future__ import annotations

import os
from typing import Protocol

import click
import pytest
from click.testing import CliRunner, Result

from penstock.cli.main import main


class Invoke(Protocol):
    """Run `penstock ARGUMENTS`, or another command."""

    def __call__(self, *arguments: str, command: click.Command = main) -> Result: ...


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def invoke() -> Invoke:
    def run(*arguments: str, command: click.Command = main) -> Result:
        result = CliRunner().invoke(
            command, list(arguments), prog_name="penstock", terminal_width=100
        )
        assert "Traceback" not in result.output
        return result

    return run
