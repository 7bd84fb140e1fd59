"""A command that runs in several processes, each idle until SIGTERM. See `test_processes`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from penstock import logs
from penstock.cli.processes import Shared, inherited, watch
from penstock.cli.roster import Backoff

COUNT = 3
_PR_SET_CHILD_SUBREAPER = 36
LONG_S = 3600.0
BACKOFF = Backoff(first_s=0, steady_s=LONG_S, tries=2)


class Interrupted(subprocess.Popen[bytes]):
    """SIGTERM comes when the second has started, and nobody has taken note of it yet."""

    started = 0

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[call-overload]  # whatever they are
        Interrupted.started += 1
        if Interrupted.started == 2:
            signal.raise_signal(signal.SIGTERM)


class Refused(subprocess.Popen[bytes]):
    """No process is to be had for one of them, as where memory is short."""

    started = 0
    refused = COUNT + 1

    def __init__(self, *given: object, **named: object) -> None:
        Refused.started += 1
        if Refused.started == Refused.refused:
            raise BlockingIOError("no more processes")
        super().__init__(*given, **named)  # type: ignore[call-overload]  # whatever they are


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve(shared: Shared) -> None:
    shared.serves()
    say(f"up {os.getpid()}")
    signal.sigwait({signal.SIGTERM})


def serve_beside_an_orphan(shared: Shared) -> None:
    # Its parent ends at once, and whoever stands in for init gets it.
    subprocess.run(["/bin/sh", "-c", "sleep 0 &"], check=True)
    serve(shared)


def fail(_: Shared) -> None:
    """As with a model that is not there."""
    sys.exit(3)


def fail_after(count: int) -> Callable[[Shared], None]:
    """Those behind the first so many fail before they serve. The folder counts them."""

    def serve_or_fail(shared: Shared) -> None:
        folder = Path(os.environ["TMPDIR"])
        (folder / str(os.getpid())).touch()
        if len([*folder.iterdir()]) > count:
            sys.exit(3)
        serve(shared)

    return serve_or_fail


WAYS: dict[str, Callable[[Shared], None]] = {
    "orphans": serve_beside_an_orphan,
    "fails": fail,
    "fails later": fail_after(COUNT),
}


def main(how: str) -> int:
    shared = inherited()
    if shared is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        WAYS.get(how, serve)(shared)
        return 0
    if how == "orphans":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if how == "interrupted":
        subprocess.Popen = Interrupted  # type: ignore[assignment,misc]  # the moment is what matters
    if how.startswith("refused"):
        Refused.refused = 1 if how == "refused at first" else COUNT + 1
        subprocess.Popen = Refused  # type: ignore[assignment,misc]  # the system's answer matters
    logs.to_stderr("json", "info")
    say("watches")
    backoff = Backoff(first_s=LONG_S, most_s=LONG_S) if how == "waits" else BACKOFF
    return watch(COUNT, [], [], backoff)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
