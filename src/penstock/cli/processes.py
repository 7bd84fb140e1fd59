"""Several processes behind one port: this one watches, and the others serve.

They are started anew and not forked: onnxruntime has a thread from its import on, and a fork of
its process aborts when it ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TypeAlias

LISTENERS = "PENSTOCK_LISTENER_FDS"
"""Tells a process that it is one of several, and which sockets they share."""
START_S = 10.0
"""Whoever ends within that has not come to serving, and another one would not either."""
_PR_SET_PDEATHSIG = 1


Sockets: TypeAlias = list[socket.socket]


def inherited() -> tuple[Sockets, Sockets] | None:
    """The sockets that this process shares, those for metrics apart, where it is one of several."""
    told = os.environ.get(LISTENERS, "")
    if told:
        # Where the system can do that (Linux): nobody is left behind by one that was killed.
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    served, _, metrics = told.partition(";")
    return (_opened(served), _opened(metrics)) if told else None


def _opened(numbers: str) -> Sockets:
    return [socket.socket(fileno=int(number)) for number in numbers.split(",") if number]


def watch(count: int, listeners: Sockets, metrics: Sockets) -> int:
    """Run this command in `count` processes until all have ended; the exit code for that.

    One that dies is replaced. SIGTERM and SIGINT end all; a second one ends their drains.
    """
    return Watcher(listeners, metrics).run(count)


class Watcher:
    """The parent of those that serve."""

    def __init__(self, listeners: Sockets, metrics: Sockets) -> None:
        self._fds = [each.fileno() for each in (*listeners, *metrics)]
        shared = (listeners, metrics)
        self._told = ";".join(",".join(str(each.fileno()) for each in part) for part in shared)
        self._running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._stopping = False

    def run(self, count: int) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        for _ in range(count):
            self._start()
        code = 0
        while self._running:
            code = max(code, self._wait())
        return code

    def _start(self) -> None:
        environ = os.environ | {LISTENERS: self._told}
        command = [sys.executable, *sys.orig_argv[1:]]
        # In groups of their own: a terminal's SIGINT comes here only, as it does in a container.
        child = subprocess.Popen(command, env=environ, pass_fds=self._fds, process_group=0)
        self._running[child.pid] = child, time.monotonic()
        if self._stopping:
            # Told while it was being started, when it was in no list yet.
            _end(child.pid)

    def _wait(self) -> int:
        """Until one has ended: its exit code, or 0 where another one takes its place."""
        pid, status = os.wait()
        if pid not in self._running:
            return 0  # an orphan: in a container this process is init
        child, started_s = self._running.pop(pid)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        if code and not self._stopping:
            if time.monotonic() - started_s > START_S:
                self._start()
                return 0
            self._stop()
        return abs(code)

    def _stop(self) -> None:
        self._stopping = True
        for pid in self._running:
            _end(pid)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
