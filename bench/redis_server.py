"""A redis-server on a free port of loopback, with an append-only file in a folder of its own."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Redis:
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *words: str) -> str:
        """The raw answer to one short command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(f"{' '.join(words)}\r\n".encode())
            return connection.recv(1 << 16).decode()

    def number(self, section: str, name: str) -> float:
        """A field of INFO."""
        lines = self.ask("INFO", section).splitlines()
        return float(next(line for line in lines if line.startswith(f"{name}:")).split(":")[1])


@contextmanager
def redis(fsync: str) -> Iterator[Redis]:
    """`fsync` is Redis's appendfsync: always, everysec or no."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Redis(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(server.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", folder, "--appendonly", "yes", "--appendfsync", fsync]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait(server)
            yield server
        finally:
            process.kill()
            process.wait()


def _wait(server: Redis) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if server.ask("PING").startswith("+PONG"):
                return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("redis-server does not answer")
