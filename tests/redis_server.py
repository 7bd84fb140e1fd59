"""A real redis-server on a free port of loopback, with its data in a folder of the test's."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 10.0


class RedisServer:
    """Starts at once. What was written survives `kill` where `durable`, and `fsync` is always."""

    def __init__(self, folder: Path, *, durable: bool = False, fsync: str = "always") -> None:
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._durable = durable
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": self._fsync,
            "loglevel": "warning",
        }
        told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            ["redis-server", *told], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._wait()

    def kill(self) -> None:
        """As a power cut does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def ask(self, *words: str) -> bytes:
        """The raw answer to one short command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connection.recv(65536)

    def info(self, name: str) -> float:
        """A number that `INFO` tells."""
        lines = self.ask("INFO").decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name}:")).split(":")[1])

    def memory_bytes(self) -> int:
        """What its data take."""
        return int(self.info("used_memory"))

    def _wait(self) -> None:
        """Until it answers and has read what it had."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if self.ask("PING") == b"+PONG\r\n":
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError("redis-server does not answer")


@contextmanager
def redis_server(
    folder: Path, *, durable: bool = False, fsync: str = "always"
) -> Iterator[RedisServer]:
    server = RedisServer(folder, durable=durable, fsync=fsync)
    try:
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
