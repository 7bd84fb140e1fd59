"""The model of the protocol holds, and fails without any of the things that it is made of."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = (Path(__file__).parents[2] / "docs" / "protocol" / "jobs.pml").read_text()
SMALLER = {"WORKERS 3": "WORKERS 2", "DEATHS  2": "DEATHS  1", "OUTAGES 2": "OUTAGES 1"}
IN_LINE = """queued && !ended -> queued = false; epoch++; holder = me; leased = true;
       mine = epoch; at = last
     }"""
WITHOUT = {
    "epoch": {
        ":: epoch != mine -> known = 0": ":: false -> known = 0",
        "epoch == mine && last": "last",
    },
    "number": {
        ":: epoch == mine && last >= number -> known = 1": ":: false -> known = 1",
        "last < number && (ended || last + 1 != number)": "ended",
        "epoch == mine && last + 1 == number && !ended": "epoch == mine && !ended",
        "last = number;": "last++;",
        "written[number]": "written[last]",
        "writer_of[number]": "writer_of[last]",
        "content[number]": "content[last]",
        ":: number == EVENTS": ":: last == EVENTS",
    },
    "repetition": {"last >= number -> known = 1": "last >= number -> known = 0"},
    "one step for hand-out and lease": {
        IN_LINE: """queued && !ended -> queued = false };
     if
     :: atomic { epoch++; holder = me; leased = true; mine = epoch; at = last }
     :: atomic { deaths < DEATHS -> deaths++; alive--; goto done }
     fi"""
    },
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("spin") is None or shutil.which("cc") is None,
        reason="spin or a C compiler is not installed; `just test` installs spin where it may",
    ),
]


def errors(folder: Path, changes: dict[str, str]) -> int:
    """What Spin finds in the model with `changes`, all claims together."""
    model = MODEL
    for old, new in (SMALLER | changes).items():
        assert old in model
        model = model.replace(old, new)
    (folder / "jobs.pml").write_text(model)
    _run(folder, "spin", "-a", "jobs.pml")
    _run(folder, "cc", "-O1", "-w", "-o", "pan", "pan.c")
    safe = _run(folder, "./pan", "-m100000", "-a", "-N", "safe")
    ends = _run(folder, "./pan", "-m1000000", "-a", "-f", "-N", "ends")
    found = re.findall(r"errors: (\d+)", safe + ends)
    assert len(found) == 2, safe + ends
    return sum(map(int, found))


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_protocol_keeps_its_promises(tmp_path: Path) -> None:
    assert errors(tmp_path, {}) == 0


@pytest.mark.parametrize("part", sorted(WITHOUT))
def test_no_part_of_it_can_be_left_out(tmp_path: Path, part: str) -> None:
    assert errors(tmp_path, WITHOUT[part]) > 0
