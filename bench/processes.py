"""Engines in processes of their own, of which one computes at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from contestants import CONTESTANTS, make_model

SETTLE_S = 0.02
"""After a process is woken, until its threads have noticed."""


class Peer:
    """An engine in its process, stopped while nothing is asked of it."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process
        self.about = self.ask("about")

    def ask(self, op: str, **arguments: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.kill(self._process.pid, signal.SIGCONT)
        time.sleep(SETTLE_S)
        self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended; see its log")
        os.kill(self._process.pid, signal.SIGSTOP)
        return dict(json.loads(line))


@contextmanager
def started(name: str, command: list[str], log: Path) -> Iterator[Peer]:
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            yield Peer(name, process)
        finally:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.communicate()


@contextmanager
def contest(
    names: Sequence[str],
    pythons: Mapping[str, str | None],
    checkpoint: Path,
    work: Path,
    threads: int,
) -> Iterator[list[Peer]]:
    """A peer for each of `names` whose Python is known; the others are told of and left out."""
    # A process that is stopped does not notice that its parent has gone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    models = work / "models" / checkpoint.name
    models.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        peers = []
        for name in names:
            contestant = CONTESTANTS[name]
            python = pythons[contestant.engine]
            if python is None:
                print(f"{name}: skipped, no --{contestant.engine} PYTHON given")
                continue
            model, *rest = make_model(contestant, checkpoint, models, pythons)
            command = [python, str(contestant.script), model, str(threads), *rest]
            peers.append(stack.enter_context(started(name, command, work / f"{name}.log")))
        yield peers


def rotated(peers: list[Peer], by: int) -> list[Peer]:
    """So that nobody always comes first."""
    by %= len(peers)
    return peers[by:] + peers[:by]
