"""The models of the protocol hold, and fail without any of the things that they are made of."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "protocol"
SAFE, ENDS = ("-a", "-N", "safe"), ("-a", "-f", "-N", "ends")
AT_ONCE = ("-a", "-N", "taken_at_once")
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
        "written[number]++": "written[last + 1]++",
        "writer_of[number]": "writer_of[last + 1]",
        "content[number]": "content[last + 1]",
        "last = number;": "last++;",
        ":: what == EVENTS": ":: last == EVENTS",
    },
    "repetition": {"last >= number -> known = 1": "last >= number -> known = 0"},
    "one step for hand-out and lease": {
        IN_LINE: """queued && !ended -> queued = false };
     if
     :: atomic { epoch++; holder = me; leased = true; mine = epoch; at = last }
     :: atomic { deaths < DEATHS -> deaths++; alive--; goto done }
     fi"""
    },
    "knowing what was written before a refusal": {":: refused && known == 1 ->": ":: refused ->"},
    "an end for what was refused": {
        ":: refused && known == 1 ->": ":: refused && known == 1 -> goto idle;"
    },
    "an end after which nothing is written": {
        "refused = true; epoch++; write(": "refused = true; write(",
        "(ended || last + 1 != number)": "(last + 1 != number)",
        "last + 1 == number && !ended": "last + 1 == number",
    },
}
FEWER = {"CANCELS 1": "CANCELS 0", "SLOTS + 1": "SLOTS"}
TWO = FEWER | {"JOBS    3": "JOBS    2"}
NOT_AT_ONCE = {
    "a call for who had no room for the first in line": {
        "(fits -> room : 0)": "(fits -> room : -1)"
    },
    "a call for the next in line": {"taken > 0 || free == 0 -> call": "free == 0 -> call"},
    "handing on a call in vain": {"taken > 0 || free == 0 -> call": "taken > 0 -> call"},
    "calls that come while one looks": {"called[best] || !killed[best]": "asleep[best]"},
    "places for all before another look": {
        ":: else -> break\n  od;\n  asleep": ":: break\n  od;\n  asleep"
    },
}
NEVER = {
    "counting what is taken": {"-> 0 : SLOTS - used[me])": "-> 0 : SLOTS)"},
    "looks now and then": {"&& !gone[me] -> goto look  ": "&& false -> goto look  "},
}

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("spin") is None or shutil.which("cc") is None,
        reason="spin or a C compiler is not installed; `just test` installs spin where it may",
    ),
]


def errors(
    folder: Path, name: str, changes: Mapping[str, str], claim: tuple[str, ...], *options: str
) -> int:
    """What Spin finds in a model with `changes`."""
    model = (FOLDER / name).read_text()
    for old, new in changes.items():
        assert old in model
        model = model.replace(old, new)
    (folder / name).write_text(model)
    _run(folder, "spin", *options, "-a", name)
    _run(folder, "cc", "-O1", "-w", "-DNFAIR=3", "-o", "pan", "pan.c")
    told = _run(folder, "./pan", "-m1000000", *claim)
    (found,) = re.findall(r"errors: (\d+)", told)
    return int(found)


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("claim", [SAFE, ENDS], ids=lambda it: it[-1])
def test_the_protocol_keeps_its_promises(tmp_path: Path, claim: tuple[str, ...]) -> None:
    assert errors(tmp_path, "jobs.pml", SMALLER, claim) == 0


@pytest.mark.heavy
@pytest.mark.parametrize("part", sorted(WITHOUT))
def test_no_part_of_it_can_be_left_out(tmp_path: Path, part: str) -> None:
    changes = SMALLER | WITHOUT[part]
    assert any(errors(tmp_path, "jobs.pml", changes, claim) for claim in (SAFE, ENDS))


def test_a_job_in_line_is_taken_as_soon_as_it_fits(tmp_path: Path) -> None:
    assert errors(tmp_path, "line.pml", FEWER, AT_ONCE) == 0


@pytest.mark.heavy
def test_a_job_in_line_is_taken_whoever_is_killed(tmp_path: Path) -> None:
    assert errors(tmp_path, "line.pml", TWO, ENDS, "-DLOSSES") == 0


@pytest.mark.heavy
@pytest.mark.parametrize("part", sorted(NOT_AT_ONCE))
def test_a_line_without_that_is_slower(tmp_path: Path, part: str) -> None:
    assert errors(tmp_path, "line.pml", FEWER | NOT_AT_ONCE[part], AT_ONCE) > 0


@pytest.mark.heavy
def test_a_line_without_a_call_after_a_refusal_is_slower(tmp_path: Path) -> None:
    changes = {"SLOTS + 1": "SLOTS", "drop(j); call_next()": "drop(j)"}
    assert errors(tmp_path, "line.pml", changes, AT_ONCE) > 0


@pytest.mark.heavy
@pytest.mark.parametrize("part", sorted(NEVER))
def test_a_line_without_that_does_not_work(tmp_path: Path, part: str) -> None:
    assert errors(tmp_path, "line.pml", TWO | NEVER[part], ENDS, "-DLOSSES") > 0
