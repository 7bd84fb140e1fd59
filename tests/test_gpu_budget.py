"""What the one call that measures a GPU begins, skips and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    monkeypatch.syspath_prepend(str(BENCH))
    return import_module("gpu_budget")


def test_what_the_goals_name_is_measured_first_and_all_of_it(budget: Any) -> None:  # noqa: ANN401
    shapes = list(budget.WEIGHTS_GB)
    planned = budget.order(list(budget.PARTS), shapes)
    assert planned[:4] == [
        ("engine", "qwen2.5-0.5b"),
        ("engine", "qwen2.5-7b"),
        ("delivered", "qwen2.5-7b"),
        ("transformers", "qwen2.5-7b"),
    ]
    assert len(planned) == len(set(planned)) == 5 * 4 + 1
    assert budget.order(["torch"], ["tiny"]) == [("torch", "tiny")]


def test_a_part_that_does_not_fit_is_refused_with_its_reason(budget: Any) -> None:  # noqa: ANN401
    short = budget.Budget(40)
    assert short.refuses("engine", "qwen2.5-0.5b") == ""
    assert short.refuses("engine", "qwen2.5-7b") == "takes about 42 s, and 40 s are left"


def test_what_takes_longer_than_guessed_is_expected_to_the_next_time(
    budget: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([0.0, 0.0, 0.0, 28.0, 28.0])
    monkeypatch.setattr(budget.time, "perf_counter", lambda: next(now))
    spent = budget.Budget(540)
    with spent.spent("engine", "qwen2.5-0.5b"):
        pass
    assert spent.expected_s("engine", "qwen2.5-7b") == pytest.approx(2 * (12 + 2 * 15.2))


HANGING = """
import subprocess, sys
import gpu_budget
gpu_budget.LEAST_S = 0.2
with gpu_budget.Budget(0).spent("engine", "tiny"):
    sys.exit(-subprocess.call([sys.executable, "-c", "import time; time.sleep(600)"]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for its children")
def test_what_hangs_is_ended() -> None:
    """In a process of its own: all that it has started ends."""
    path = str(Path(__file__).parents[1] / "bench")
    environ = os.environ | {"PYTHONPATH": os.pathsep.join((path, *sys.path))}
    done = subprocess.run([sys.executable, "-c", HANGING], env=environ, timeout=60, check=False)
    assert done.returncode == signal.SIGKILL
