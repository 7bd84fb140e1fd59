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

from penstock.jobs.redis.watch import RedisWatch

from .fleet.connection import Weather
from .fleet.fleet import Conditions, run
from .fleet.harms import freeze_worker
from .fleet.redis import edit, read_sources

ROOT = Path(__file__).parents[2]
ENOUGH = 60
"""A planted bug is found within so many."""
LOSSY = Weather(breaks=0.05)
Plant: TypeAlias = Callable[[pytest.MonkeyPatch], Conditions]


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


def without_the_epoch(patch: pytest.MonkeyPatch) -> Conditions:
    told = re.escape("if job[1] ~= epoch then")
    sources = edit(read_sources(), "append", told, "if false then")
    return Conditions(sources, harms=[freeze_worker])


def without_the_number(patch: pytest.MonkeyPatch) -> Conditions:
    """Whatever comes is the next one."""
    told = r"  elseif tonumber\(job\[2\]\) >= .*?  else\n    write\(id, number,"
    by = "  else\n    write(id, string.format('%d', job[2] + 1),"
    return Conditions(edit(read_sources(), "append", told, by), LOSSY)


def with_a_lease_of_its_own(patch: pytest.MonkeyPatch) -> Conditions:
    """Which comes with the next sign of life."""
    told = re.escape("claim(id, model, now, lease_s)")
    by = (
        "redis.call('HINCRBY', job_of(id), 'epoch', 1)\n"
        "  redis.call('HSET', job_of(id), 'holder', me)"
    )
    return Conditions(edit(read_sources(), "take", told, by), LOSSY)


def without_asking_again_when_redis_is_back(patch: pytest.MonkeyPatch) -> Conditions:
    patch.setattr(RedisWatch, "resume", lambda self: None)
    return Conditions(weather=LOSSY)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (without_the_epoch, "in epoch"),
        (without_the_number, "which should be"),
        (with_a_lease_of_its_own, "without an end|TooSlow|never ended"),
        (without_asking_again_when_redis_is_back, "TooSlow|never ended|for .* s$"),
    ],
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, told: str) -> None:
    given = plant(monkeypatch)
    errors = (run(seed, given).error for seed in range(ENOUGH))
    assert re.search(told, next(filter(None, errors), "no world noticed"))
