"""A command that runs in several processes, each idle until SIGTERM. See `test_processes`."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys

from penstock.cli.processes import inherited, watch

COUNT = 3
_PR_SET_CHILD_SUBREAPER = 36


class Interrupted(subprocess.Popen[bytes]):
    """SIGTERM comes when the second has started, and nobody has taken note of it yet."""

    started = 0

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[call-overload]  # whatever they are
        Interrupted.started += 1
        if Interrupted.started == 2:
            signal.raise_signal(signal.SIGTERM)


def serve(how: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if how == "orphans":
        # Its parent ends at once, and whoever stands in for init gets it.
        subprocess.run(["/bin/sh", "-c", "sleep 0 &"], check=True)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM})


def main(how: str) -> int:
    if inherited() is not None:
        serve(how)
        return 0
    if how == "orphans":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if how == "interrupted":
        subprocess.Popen = Interrupted  # type: ignore[assignment,misc]  # the moment is what matters
    sys.stdout.write("watches\n")
    sys.stdout.flush()
    return watch(COUNT, [], [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
