"""Several processes behind one port: they end together, and one that ends alone is replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.processes import Shared
from tests.cli.watched import COUNT

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for orphans"),
]
PATIENCE_S = 20.0


class Watched:
    """The process that watches, and what it and the others say."""

    def __init__(self, how: str, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.cli.watched", how]
        environ = os.environ | {"TMPDIR": str(folder)}
        self.process = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def up(self, count: int = COUNT) -> list[int]:
        """The next so many that have come to serving. Theirs follow the watcher's own line."""
        assert self.process.stdout is not None
        found: list[int] = []
        while len(found) < count:
            word, _, pid = self.process.stdout.readline().partition(" ")
            assert word in ("up", "watches\n")
            found += [int(pid)] if pid else []
        return found

    def told(self) -> dict[str, Any]:
        """Its next log line."""
        assert self.process.stderr is not None
        line: dict[str, Any] = json.loads(self.process.stderr.readline())
        assert line.pop("logger") == "penstock.cli.processes"
        del line["time"]
        return line

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def watched(how: str, folder: Path) -> Iterator[Watched]:
    """Without it the others get SIGTERM."""
    told = Watched(how, folder)
    try:
        yield told
    finally:
        told.process.kill()
        told.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_to_the_watcher_alone_ends_all(
    number: signal.Signals, tmp_path: Path
) -> None:
    with watched("plainly", tmp_path) as them:
        them.up()
        assert them.stop(number) == 0
        assert them.process.communicate()[1] == ""


def test_orphans_that_end_are_nobodys_concern(tmp_path: Path) -> None:
    with watched("orphans", tmp_path) as them:
        them.up()
        assert them.stop() == 0
        assert them.process.communicate()[1] == ""


def test_one_that_is_being_started_hears_of_the_end_too(tmp_path: Path) -> None:
    with watched("interrupted", tmp_path) as them:
        assert them.process.wait(PATIENCE_S) == 0


def test_one_that_is_killed_is_replaced_and_the_log_says_so(tmp_path: Path) -> None:
    with watched("plainly", tmp_path) as them:
        first = them.up()[0]
        os.kill(first, signal.SIGKILL)
        assert them.told() == {
            "level": "warning",
            "event": "a process has ended",
            "pid": first,
            "signal": "SIGKILL",
            "then": "another one is started",
        }
        assert them.up(1) != [first]
        assert them.stop() == 0


def test_one_that_ends_unasked_is_replaced_whatever_its_exit_code(tmp_path: Path) -> None:
    with watched("plainly", tmp_path) as them:
        first = them.up()[0]
        os.kill(first, signal.SIGTERM)
        told = them.told()
        assert (told["pid"], told["exit_code"]) == (first, 0)
        assert told["then"] == "another one is started"
        them.up(1)
        assert them.stop() == 0


def test_where_none_comes_to_serving_the_command_ends_as_the_first_did(tmp_path: Path) -> None:
    with watched("fails", tmp_path) as them:
        told = them.told()
        assert (told["level"], told["exit_code"], told["then"]) == ("error", 3, "the server ends")
        assert them.process.wait(PATIENCE_S) == 3


def test_replacements_that_fail_take_nobody_with_them(tmp_path: Path) -> None:
    """Each end has its line, and those that serve go on. Here nobody waits between two starts."""
    with watched("fails later", tmp_path) as them:
        first, second, third = them.up()
        os.kill(first, signal.SIGKILL)
        assert them.told()["pid"] == first
        for _ in range(4):
            told = them.told()
            assert (told["exit_code"], told["then"]) == (3, "another one is started")
        for each in (second, third):
            os.kill(each, 0)
        assert them.stop() == 0


def test_a_server_in_which_nobody_serves_any_more_ends(tmp_path: Path) -> None:
    with watched("fails later", tmp_path) as them:
        for each in them.up():
            os.kill(each, signal.SIGKILL)
        assert them.process.wait(PATIENCE_S) == 3
        assert '"the server ends"' in them.process.communicate()[1]


def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    with watched("refused", tmp_path) as them:
        os.kill(them.up()[0], signal.SIGKILL)
        assert them.told()["event"] == "a process has ended"
        told = them.told()
        assert (told["event"], told["why"]) == ("a process cannot be started", "no more processes")
        them.up(1)
        assert them.stop() == 0


def test_where_none_can_be_started_the_command_ends(tmp_path: Path) -> None:
    with watched("refused at first", tmp_path) as them:
        told = them.told()
        assert (told["why"], told["then"]) == ("no more processes", "the server ends")
        assert them.process.wait(PATIENCE_S) == 1


@pytest.mark.wire
def test_a_model_that_is_not_there_is_told_by_those_that_miss_it(tmp_path: Path) -> None:
    options = ["--workers=2", "--port=0", "--store=redis://127.0.0.1:1/0", "--log-format=json"]
    model = tmp_path / "nothing"
    command = [sys.executable, "-m", "penstock", "serve", f"--model={model}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"Error: {model}" in done.stderr
    assert '"then": "the server ends"' in done.stderr


def test_one_that_comes_to_serving_when_nobody_watches_any_more_ends() -> None:
    """Its watcher was killed before it asked the kernel to be told of that."""
    ours, theirs = socket.socketpair()
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with theirs:
            shared = Shared([], [], theirs.fileno())
            with ours:
                shared.serves()
                assert ours.recv(100) == b"%d\n" % os.getpid()
                assert heard == []
            shared.serves()
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_end_does_not_wait_for_the_next_start(tmp_path: Path) -> None:
    with watched("waits", tmp_path) as them:
        pids = them.up()
        os.kill(pids[0], signal.SIGKILL)
        assert them.told()["then"] == "another one is started in 3600 s"
        assert them.stop() == 0


def test_nobody_is_left_behind_by_a_watcher_that_is_killed(tmp_path: Path) -> None:
    with watched("plainly", tmp_path) as them:
        them.up()
        them.process.kill()
        assert them.process.stdout is not None
        assert them.process.stdout.read() == ""  # closed by all
