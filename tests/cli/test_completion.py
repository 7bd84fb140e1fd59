"""Completion, asked of the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Invoke


def test_bash_completes_commands_and_options(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "source").write_text(invoke("completion", "bash").stdout)
    command = tmp_path / "penstock"
    program = "from penstock.cli.main import main; main(prog_name='penstock')"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n')
    command.chmod(0o755)
    script = """
        PATH=$1:$PATH; source "$1/source"
        ask() { COMPREPLY=() COMP_CWORD=$(($# - 1)) COMP_WORDS=("$@")
                _penstock_completion penstock; echo "${COMPREPLY[@]}"; }
        ask penstock ser
        ask penstock chat --sys
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["serve", "--system"], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_how(invoke: Invoke, shell: str) -> None:
    source = invoke("completion", shell).stdout
    assert f"_PENSTOCK_COMPLETE={shell}_complete" in source
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=source, text=True, check=True)


def test_an_unknown_shell_is_refused(invoke: Invoke) -> None:
    assert invoke("completion", "tcsh").exit_code == 2
