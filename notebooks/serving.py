"""What the notebooks share: a server in a process of its own, its events, and a chart."""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from penstock.loadgen import svg
from penstock.loadgen.html import STYLE

START_S = 30.0


class Server:
    """`penstock serve` with the embedded model on a free port. Leaving the block stops it."""

    def __init__(self, *options: str) -> None:
        # No pipe: one that nobody reads would fill with log lines and stop the server.
        self._log = tempfile.NamedTemporaryFile("r", encoding="utf-8")  # noqa: SIM115
        with open(self._log.name, "w", encoding="utf-8") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "serve", "--port=0", *options], stderr=stderr
            )
        # A notebook that fails on its way does not reach its last cell.
        atexit.register(self.stop)
        self.url = self._announced()

    def _announced(self) -> str:
        """The URL in the banner, once it is there."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            self._log.seek(0)
            if found := re.search(r" on (http\S+)", log := self._log.read()):
                return found[1]
            if self._process.poll() is not None:
                raise RuntimeError(log)
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"no banner within {START_S} s: {log}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of `penstock_<name>` over all series that have `labels`."""
        text = httpx.get(f"{self.url}/metrics").text
        samples = [it for family in text_string_to_metric_families(text) for it in family.samples]
        wanted = {f"penstock_{name}", f"penstock_{name}_total"}
        return sum(
            sample.value
            for sample in samples
            if sample.name in wanted and labels.items() <= sample.labels.items()
        )

    def stop(self) -> None:
        atexit.unregister(self.stop)
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The id and the JSON of each server-sent event, up to `[DONE]` where there is one."""
    number = ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "data" and value != "[DONE]":
            yield number, json.loads(value)


def chart(title: str, unit: str, series: dict[str, Sequence[tuple[float, float]]]) -> str:
    """Lines over seconds, as HTML: at most two."""
    points = [point for line in series.values() for point in line]
    x = svg.Axis("s", 0, max(at for at, _ in points))
    y = svg.Axis(unit, 0, max(value for _, value in points))
    return f"<style>{STYLE}</style>" + svg.lines(title, x, y, list(series.items()))
