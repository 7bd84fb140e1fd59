"""Several processes behind one port: whatever happens to them, they end together."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.watched import COUNT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for orphans")
PATIENCE_S = 20.0


@contextmanager
def watched(how: str) -> Iterator[subprocess.Popen[bytes]]:
    """The one that watches. Without it the others get SIGTERM."""
    command = [sys.executable, "-m", "tests.cli.watched", how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_up(process: subprocess.Popen[bytes]) -> None:
    """All have come to serving. What they say follows the watcher's own line."""
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(COUNT + 1)][1:] == [b"up\n"] * COUNT


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_to_the_watcher_alone_ends_all(told: signal.Signals) -> None:
    with watched("plainly") as process:
        wait_up(process)
        process.send_signal(told)
        assert process.wait(PATIENCE_S) == 0


def test_orphans_that_end_are_nobodys_concern() -> None:
    with watched("orphans") as process:
        wait_up(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_one_that_is_being_started_hears_of_the_end_too() -> None:
    with watched("interrupted") as process:
        process.wait(PATIENCE_S)
