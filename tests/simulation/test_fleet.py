"""Fleets keep their promises, a seed is a story, and planted bugs are found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .fleet.connection import Weather
from .fleet.fleet import Conditions, run
from .fleet.redis import edit, read_sources

ROOT = Path(__file__).parents[2]
ENOUGH = 60
"""A planted bug is found within so many, from a seed on that is near to one that finds it."""
LOSSY = Weather(breaks=0.05)
Plant: TypeAlias = Callable[[], Conditions]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_fleets_keep_their_promises(seed: int) -> None:
    story = run(seed)
    assert story.error is None, str(story)


@pytest.mark.heavy
def test_a_seed_tells_the_same_story_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--fleet", "--seed", "11"]
    told = {
        subprocess.check_output(command, env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT)
        for seed in ("1", "2")
    }
    assert len(told) == 1
    run(12)
    assert str(run(11)) in told.pop().decode()


def without_the_epoch() -> Conditions:
    told = re.escape("if job[1] ~= epoch then")
    sources = edit(read_sources(), "append", told, "if false then")
    return Conditions(sources)


def without_the_number() -> Conditions:
    """Whatever comes is the next one."""
    told = r"  elseif tonumber\(job\[2\]\) >= .*?  else\n    write\(id, number,"
    by = "  else\n    write(id, string.format('%d', job[2] + 1),"
    return Conditions(edit(read_sources(), "append", told, by))


def with_a_lease_of_its_own() -> Conditions:
    """Which comes with the next sign of life."""
    told = r"claim\(id, model, lease_s\)(\n  local tries)"
    by = (
        "redis.call('HINCRBY', job_of(id), 'epoch', 1)\n"
        r"  redis.call('HSET', job_of(id), 'holder', me)\1"
    )
    return Conditions(edit(read_sources(), "take", told, by), LOSSY)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("plant", "first", "told"),
    [
        (without_the_epoch, 30, "in epoch"),
        (without_the_number, 0, "which should be"),
        (with_a_lease_of_its_own, 0, "without an end|TooSlow|never ended"),
    ],
)
def test_a_planted_bug_is_found(plant: Plant, first: int, told: str) -> None:
    given = plant()
    errors = (run(seed, given).error for seed in range(first, first + ENOUGH))
    assert re.search(told, next(filter(None, errors), "no world noticed"))
