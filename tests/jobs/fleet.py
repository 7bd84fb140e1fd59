"""Edges and workers on one Redis, as processes."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

from tests.redis_server import RedisServer
from tests.wire.servers import RUNNING, Server, wait_until


class Fleet:
    """Servers that are ended with `stack`. `lease_s` is short, since tests wait for it."""

    def __init__(
        self, folder: Path, redis: RedisServer, stack: ExitStack, *, lease_s: float = 2
    ) -> None:
        self.redis = redis
        self._lease_s = lease_s
        self._folder = folder
        self._stack = stack
        self._count = 0

    def start(self, role: str, *options: str) -> Server:
        self._count += 1
        server = Server(
            self._folder / f"{role}{self._count}",
            f"--store={self.redis.url}",
            f"--role={role}",
            f"--lease-s={self._lease_s}",
            "--slots=8",
            "--drain-s=0",
            *options,
        )
        self._stack.callback(end, server)
        wait_until(lambda: "the store is there" in server.log(), "the store")
        return server


def kill(server: Server) -> None:
    """As the kernel does when memory is short."""
    server.process.kill()
    server.process.wait()
    RUNNING.remove(server)


def end(server: Server) -> None:
    """One that was killed has ended."""
    if server in RUNNING:
        if server.process.poll() is None:
            server.signal(signal.SIGCONT)
        server.stop()
