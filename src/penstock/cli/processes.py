"""Several processes behind one port: this one watches, and the others serve.

They are started anew and not forked: onnxruntime has a thread from its import on, and a fork of
its process aborts when it ends. `roster.py` decides who is started when.
"""

from __future__ import annotations

import ctypes
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from penstock.cli.roster import Backoff, Place, Roster

log = logging.getLogger(__name__)

SHARED = "PENSTOCK_LISTENER_FDS"
"""Tells a process that it is one of several, which sockets they share, and whom it tells."""
_PR_SET_PDEATHSIG = 1
_CHUNK = 4096


Sockets: TypeAlias = list[socket.socket]


@dataclass(frozen=True, slots=True)
class Shared:
    """What a process has in common with others behind the same port."""

    listeners: Sockets
    metrics: Sockets
    watcher: int
    """The one that watches reads at its other end."""

    def serves(self) -> None:
        """Tell that this process has come to serving, or end it where nobody watches any more."""
        try:
            os.write(self.watcher, b"%d\n" % os.getpid())
        except ConnectionError:
            signal.raise_signal(signal.SIGTERM)


def inherited() -> Shared | None:
    """What this process shares, where it is one of several."""
    told = os.environ.get(SHARED, "")
    if not told:
        return None
    # Where the system can do that (Linux): nobody is left behind by one that was killed.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    listeners, metrics, watcher = told.split(";")
    return Shared(_opened(listeners), _opened(metrics), int(watcher))


def _opened(numbers: str) -> Sockets:
    return [socket.socket(fileno=int(number)) for number in numbers.split(",") if number]


def watch(count: int, listeners: Sockets, metrics: Sockets, backoff: Backoff | None = None) -> int:
    """Run this command in `count` processes until all have ended; the exit code for that.

    One that ends is replaced once one of them has served. SIGTERM and SIGINT end all; a second
    one ends their drains.
    """
    roster = Roster(count, backoff or Backoff())
    with _pair() as (signals, wakes), _pair() as (serving, tells):
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        try:
            return Watcher(roster, [listeners, metrics, [tells]], signals, serving).run()
        finally:
            signal.set_wakeup_fd(-1)


@contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


class Watcher:
    """The parent of those that serve.

    `signals` has a byte for each signal that came, `serving` a line for each process that has come
    to serving.
    """

    def __init__(
        self,
        roster: Roster,
        shared: Sequence[Sockets],
        signals: socket.socket,
        serving: socket.socket,
    ) -> None:
        self._roster = roster
        self._signals = signals
        self._serving = serving
        self._fds = [each.fileno() for part in shared for each in part]
        self._told = ";".join(",".join(str(each.fileno()) for each in part) for part in shared)
        self._running: dict[int, tuple[subprocess.Popen[bytes], Place]] = {}
        self._code = 0

    def run(self) -> int:
        with selectors.DefaultSelector() as selector:
            for each in (self._signals, self._serving):
                selector.register(each, selectors.EVENT_READ)
            while self._fill():
                next_s = self._roster.next_s
                selector.select(None if next_s == inf else max(next_s - time.monotonic(), 0))
                self._obey()
                self._reap()
        return self._code

    def _fill(self) -> bool:
        """Start whoever is due. Whether there is anything to wait for."""
        while (place := self._roster.fill(time.monotonic())) is not None:
            self._start(place)
        return bool(self._running) or self._roster.next_s < inf

    def _start(self, place: Place) -> None:
        environ = os.environ | {SHARED: self._told}
        command = [sys.executable, *sys.orig_argv[1:]]
        try:
            # In groups of their own: a terminal's SIGINT comes here only, as in a container.
            child = subprocess.Popen(command, env=environ, pass_fds=self._fds, process_group=0)
        except OSError as error:
            self._judge(place, 1, "a process cannot be started", why=str(error))
        else:
            self._running[child.pid] = child, place

    def _obey(self) -> None:
        """Whoever asked for the end, asks all."""
        with suppress(BlockingIOError):
            if {signal.SIGTERM, signal.SIGINT} & {*self._signals.recv(_CHUNK)}:
                self._stop()

    def _reap(self) -> None:
        self._hear()
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._end(*ended)

    def _hear(self) -> None:
        """Who has come to serving."""
        with suppress(BlockingIOError):
            for pid in map(int, self._serving.recv(_CHUNK).split()):
                _, place = self._running.get(pid, (None, None))
                if place is not None:
                    self._roster.serves(place, time.monotonic())

    def _end(self, pid: int, status: int) -> None:
        if pid not in self._running:
            return  # an orphan: in a container this process is init
        self._hear()  # what it said before it ended
        child, place = self._running.pop(pid)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        how = {"signal": _name(-code)} if code < 0 else {"exit_code": code}
        self._judge(place, code, "a process has ended", pid=pid, **how)

    def _judge(self, place: Place, code: int, event: str, **how: object) -> None:
        """What follows, which is said in one line unless all went as it was asked for."""
        asked = self._roster.stopping
        after_s = self._roster.ended(place, time.monotonic())
        if asked and code in (0, -signal.SIGTERM):
            return
        if after_s is not None:
            log.warning(event, extra={**how, "then": _start_in(after_s)})
            return
        log.error(event, extra={**how, "then": "the server ends"})
        self._code = self._code or _exit_code(code)
        if not asked:
            self._stop()

    def _stop(self) -> None:
        self._roster.stop()
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _start_in(after_s: float) -> str:
    return f"another one is started in {after_s:g} s" if after_s else "another one is started"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)  # a real-time one


def _exit_code(code: int) -> int:
    """As shells have it. One that ended with 0 before it served is no success."""
    return 128 - code if code < 0 else code or 1
