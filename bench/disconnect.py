"""From a client's leaving to its request's end and its slot's freedom, in milliseconds.

    python bench/disconnect.py --tries 100

The server runs in this process, on loopback, with the embedded model; each try is one request that
is left in one state. A slot is free at the end of the step that runs at that moment, at the latest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.wire.leaving import PATH, WAYS, ask, leave
from tests.wire.raw import Raw, post

from penstock import logs
from penstock.build import build_service
from penstock.settings import Settings
from penstock.web.app import App
from penstock.web.listeners import bind, listen
from penstock.web.server import serve_until

STATES = ["queued", "prefill", "producing", "blocked", "whole"]


class Bench:
    """A server with one slot, so that a second request is queued."""

    def __init__(self, app: App, port: int) -> None:
        self.app = app
        self.address: Any = SimpleNamespace(host="127.0.0.1", port=port)
        self.schedule = app.service.default.decoder.schedule

    @property
    def counted(self) -> int:
        text = self.app.service.metrics.render().decode()
        line = 'penstock_requests_cancelled_total{reason="disconnect"} '
        return int(float(text.split(line)[1].split()[0])) if line in text else 0

    async def attempt(self, transport: str, way: str, state: str) -> tuple[float, float]:
        """Milliseconds to the end of the request, and to the freedom of its slot."""
        occupant = Raw(self.address) if state == "queued" else None
        if occupant:
            occupant.send(post(PATH, {**body_of("blocked"), "max_tokens": 900}))
            await until(lambda: self.schedule.active == 1)
        live = self.app.service.default.admission.taken
        peer = await ask(self.address, transport, body_of(state), stop=state == "blocked")
        await until(self.is_in(state, live))
        started = time.perf_counter()
        leave(peer, way)
        await until(lambda: self.app.service.default.admission.taken == live)
        ended = time.perf_counter()
        if occupant:
            occupant.reset()
        else:
            await until(lambda: self.schedule.free == 1)
        freed = time.perf_counter()
        await until(
            lambda: self.schedule.free == 1 and not self.app.service.default.admission.taken
        )
        peer.socket.close()
        return 1000 * (ended - started), 1000 * (freed - started)

    def is_in(self, state: str, live: int) -> Callable[[], bool]:
        service = self.app.service
        steps = service.default.decoder.steps
        return {
            "queued": lambda: self.schedule.waiting == 1,
            "prefill": lambda: self.schedule.active == 1,
            "producing": lambda: service.default.decoder.steps > steps + 3,
            "whole": lambda: service.default.decoder.steps > steps + 3,
            "blocked": lambda: self.schedule.parked == 1,
        }[state]


def body_of(state: str) -> dict[str, Any]:
    words = 700 if state == "prefill" else 5
    return {
        "prompt": "once " * words,
        "max_tokens": 200 if state == "prefill" else 900,
        "ignore_eos": True,
        "stream": state != "whole",
    }


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.lowlevel.checkpoint()


def percentile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(100 * share) - 1]


async def measure(bench: Bench, tries: int, chosen: list[str]) -> None:
    print(f"p50 / p95 ms of {tries} tries: request ended; slot free")
    print("| transport | way | " + " | ".join(STATES) + " |")
    print("|---|---|" + "---|" * len(STATES))
    for transport in chosen:
        for way in WAYS[transport]:
            cells = []
            for state in STATES:
                if transport == "WebSocket" and state == "whole":
                    cells.append("–")
                    continue
                before = bench.counted
                taken = [await bench.attempt(transport, way, state) for _ in range(tries)]
                expected = tries * (2 if state == "queued" else 1)
                assert bench.counted - before == expected, "not counted once each"
                cells.append(
                    "; ".join(
                        f"{percentile(each, 0.5):.1f} / {percentile(each, 0.95):.1f}"
                        for each in map(list, zip(*taken, strict=True))
                    )
                )
            print(f"| {transport} | {way} | " + " | ".join(cells) + " |", flush=True)


async def main(tries: int, chosen: list[str]) -> None:
    settings = Settings(slots=1, queue=4, send_buffer_bytes=4096, drain_s=0, prefix_cache_bytes=0)
    app = App(build_service(settings))
    listeners = bind("127.0.0.1", 0)
    listen(listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_until, trio.sleep_forever, app, settings, listeners))
        await measure(Bench(app, listeners[0].getsockname()[1]), tries, chosen)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("transports", nargs="*", default=list(WAYS))
    given = parser.parse_args()
    logs.to_logging()
    trio.run(main, given.tries, given.transports)
