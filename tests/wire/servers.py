"""`penstock serve` as a process, watched through its log and its metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import trio
from prometheus_client.parser import text_string_to_metric_families

import penstock

PATIENCE_S = 10.0
ENDINGS = {f"penstock_requests_{way}_total" for way in ("finished", "failed", "cancelled")}

RUNNING: list[Server] = []
"""Servers whose log is shown when a test fails."""


def wait_until(
    condition: Callable[[], bool], what: str = "condition", *, patience_s: float = PATIENCE_S
) -> None:
    """Poll until `condition` holds. The only place in these tests that passes time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {patience_s} s"
        time.sleep(0.005)


async def until(condition: Callable[[], bool], what: str = "condition") -> None:
    """`wait_until` for tests whose client runs in this process."""
    await trio.to_thread.run_sync(wait_until, condition, what)


async def until_here(condition: Callable[[], bool], what: str = "condition") -> None:
    """`wait_until` for tests whose server runs in this process: nobody else moves meanwhile."""
    with trio.move_on_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # a real server moves at its own pace
            await trio.sleep(0.005)
    assert condition(), f"no {what} within {PATIENCE_S} s"


class Answer:
    """One HTTP response that was read to its end."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever the server said
        assert self.headers["content-type"] == "application/json", self.headers
        return json.loads(self.body)


class Server:
    """A server on a free port. `stop` ends it and gives its exit code."""

    READY = "try it:"

    def __init__(self, log: Path, *options: str) -> None:
        self._log = log
        self._seen = 0
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                self._command(options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=_environment() | self._settings(options),
            )
        RUNNING.append(self)
        try:
            wait_until(self._announced, "banner", patience_s=30)
        except BaseException:
            self.stop()
            raise
        self.url, self.host, self.port = self._address()

    def _command(self, options: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "penstock", "serve", "--port=0", *options]

    def _settings(self, options: tuple[str, ...]) -> dict[str, str]:
        """What is told by environment variables."""
        return {}

    def _address(self) -> tuple[str, str, int]:
        """URL, host and port; for a UNIX socket the last two mean nothing."""
        found = re.search(
            r" on ((?:https?://([\d.]+):(\d+)|unix:.*?))( \(CTRL|$)", self.log(), re.MULTILINE
        )
        assert found, self.log()
        return found[1], found[2], int(found[3] or 0)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def news(self) -> str:
        """What was logged since the last call."""
        log = self.log()
        news, self._seen = log[self._seen :], len(log)
        return news

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        connection = HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, told, response.read())
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Every sample as `name` or `name:label value`."""
        text = self.ask("GET", "/metrics").body.decode()
        samples = [
            each for family in text_string_to_metric_families(text) for each in family.samples
        ]
        return {":".join([each.name, *each.labels.values()]): each.value for each in samples}

    def gauge(self, name: str) -> float:
        """A gauge, or a counter without labels."""
        seen = self.metrics()
        return seen.get(f"penstock_{name}", seen.get(f"penstock_{name}_total", 0.0))

    def is_idle(self) -> bool:
        seen = self.metrics()
        return all(seen[f"penstock_{name}"] == 0 for name in ("active", "waiting", "live"))

    def wait_gauge(self, name: str, value: float) -> None:
        wait_until(lambda: self.gauge(name) == value, f"{name} {value}")

    def wait_active(self, count: int) -> None:
        self.wait_gauge("active", count)

    @contextmanager
    def endings(self) -> Iterator[Counter[str]]:
        """How generations ended in the block, by reason, once slots and places are free again."""
        before, counted = self._ended(), Counter[str]()
        yield counted
        wait_until(self.is_idle, "idle server")
        counted.update(self._ended() - before)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        return self.process.wait(patience_s)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        finally:
            self.process.kill()
            self.process.wait()
            RUNNING.remove(self)

    def _ended(self) -> Counter[str]:
        ended = Counter[str]()
        for key, value in self.metrics().items():
            name, _, reason = key.partition(":")
            if name in ENDINGS:
                ended[reason] += int(value)
        return ended

    def _announced(self) -> bool:
        assert self.process.poll() is None, self.log()
        return self.READY in self.log()


class StockServer(Server):
    """The same application under Hypercorn as it comes. Options are settings."""

    READY = "Running on"

    def _command(self, options: tuple[str, ...]) -> list[str]:
        stock = ["-k", "trio", "-w", "0", "-b", "127.0.0.1:0", "--keep-alive", "1"]
        return [sys.executable, "-m", "hypercorn", *stock, "penstock.asgi:app"]

    def _settings(self, options: tuple[str, ...]) -> dict[str, str]:
        pairs = (option.lstrip("-").split("=", 1) for option in options)
        return {f"PENSTOCK_{name.replace('-', '_').upper()}": value for name, value in pairs}


@contextmanager
def run_mute(path: Path) -> Iterator[None]:
    """A server at the UNIX socket `path` whose standard error is on a full disk."""
    with open("/dev/full", "wb") as full:  # a device
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "serve", f"--uds={path}"],
            stdin=subprocess.DEVNULL,
            stderr=full,
            env=_environment(),
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def run_serve(*options: str) -> tuple[int, str]:
    """`penstock serve` that is expected to give up: its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "serve", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment(),
        timeout=30,
        check=False,
        text=True,
    )
    return done.returncode, done.stderr


def _environment() -> dict[str, str]:
    """This one without settings, and with the package that these tests import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return kept | {"PYTHONPATH": str(Path(penstock.__file__).parents[1])}
