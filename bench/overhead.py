"""What guarding and observing cost: `python bench/overhead.py`.

First, CPU for each token of 16 streams in one process, with an engine whose tokens are written in
advance, so that nothing of a model hides it: bare, then with one thing more at a time. The variants
take turns in every round; told are medians over the rounds. Then, CPU of a server process for each
request that it refuses, over one connection that is kept open.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))

import structlog
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from tests.inline import InlineThread
from tests.simulation.scripted import Script, ScriptedEngine
from tests.wire.raw import HANDSHAKE, Raw, start
from tests.wire.servers import Server

from penstock import accounting, logs
from penstock.access.keys import Key, digest_of, new_secret, write_keys
from penstock.access.ring import KeyRing
from penstock.build import assemble
from penstock.engine.engine import Engine
from penstock.engine.tokenizer import load_tokenizer
from penstock.events import Event
from penstock.models import embedded_model
from penstock.otel import Spans
from penstock.protocols.openai_answer import Head, StreamEncoder
from penstock.requests import ANYBODY, Caller, GenerateRequest, Limit
from penstock.service import Service
from penstock.settings import Settings

STREAMS, TOKENS = 16, 80
LIMITS = (Limit("tokens_per_day", 1 << 40), Limit("tokens_per_minute", 1 << 40))
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Variant:
    """What is on. Each has all that the one before it has."""

    name: str
    metrics: bool = True
    keys: bool = True
    log: bool = True
    traces: bool = False


VARIANTS = (
    Variant("bare", metrics=False, keys=False, log=False),
    Variant("+ metrics", keys=False, log=False),
    Variant("+ keys and quotas", log=False),
    Variant("+ log (the default)"),
    Variant("+ traces", traces=True),
)


class NullSink:
    """Takes everything, as a socket with room does."""

    async def open(self) -> None:
        pass

    async def permit(self, event: Event | None) -> bool:
        return True

    async def write(self, data: bytes, event: Event | None) -> None:
        await trio.lowlevel.checkpoint()

    def release(self) -> None:
        pass


class NullExporter(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Bench:
    """The services of all variants, and a file with one key among a hundred."""

    def __init__(self, folder: Path) -> None:
        self._secret = new_secret()
        secrets = [*(new_secret() for _ in range(99)), self._secret]
        keys = [
            Key(name=f"key{number}", digest=digest_of(secret))
            for number, secret in enumerate(secrets)
        ]
        write_keys(folder / "keys.json", keys)
        self._ring = KeyRing(folder / "keys.json")
        self._tokenizer = load_tokenizer(embedded_model())
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(NullExporter()))
        self._spans = Spans(provider.get_tracer("bench"))
        logs.to_stderr("json", "info")
        self._loud = structlog.get_logger().bind()
        self._quiet = structlog.wrap_logger(
            None, wrapper_class=structlog.make_filtering_bound_logger(50)
        ).bind()

    def cpu_us(self, variant: Variant, repeats: int) -> float:
        """CPU for each token, in microseconds."""
        service = self._service(variant)
        accounting.log = self._loud if variant.log else self._quiet
        began_s = time.process_time()
        trio.run(self._serve, service, variant, repeats)
        return (time.process_time() - began_s) / (STREAMS * TOKENS * repeats) * 1e6

    def _service(self, variant: Variant) -> Service:
        engine = ScriptedEngine(Script(self._tokenizer), STREAMS, Random(1))
        service = assemble(
            Settings(slots=STREAMS), "default", cast("Engine", engine), self._tokenizer
        )
        service.default.decoder.thread = service._thread = InlineThread()
        if variant.traces:
            service.trace = self._spans
        if not variant.metrics:
            service.accounted = lambda live, source: nullcontext()  # type: ignore[method-assign]
            service.metrics.itl_s.observe = lambda *_: None  # type: ignore[method-assign]
        return service

    async def _serve(self, service: Service, variant: Variant, repeats: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run)
            for _ in range(repeats):
                async with trio.open_nursery() as streams:
                    for _ in range(STREAMS):
                        streams.start_soon(self._stream, service, variant)
            nursery.cancel_scope.cancel()

    async def _stream(self, service: Service, variant: Variant) -> None:
        request = GenerateRequest(prompt="Once upon a time", max_tokens=TOKENS)
        encoder = StreamEncoder(Head("chat", "0" * 24, "default", 0))
        caller = self._caller() if variant.keys else ANYBODY
        await service.generate(replace(request, caller=caller), encoder, NullSink())

    def _caller(self) -> Caller:
        key = self._ring.find(self._secret)
        assert key is not None
        return Caller(key.name, key.name, limits=LIMITS)


def per_token(rounds: int, repeats: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nowhere,
        redirect_stderr(nowhere),
    ):
        bench = Bench(Path(folder))
        for variant in VARIANTS:
            bench.cpu_us(variant, 1)
        found = [[bench.cpu_us(each, repeats) for each in VARIANTS] for _ in range(rounds)]
    print(f"CPU for each token, {STREAMS} streams of {TOKENS} tokens, {rounds} rounds\n")
    print("| with | µs a token | more than bare |\n|---|---|---|")
    for variant, spent in zip(VARIANTS, zip(*found, strict=True), strict=True):
        more = statistics.median(us - bare for us, (bare, *_) in zip(spent, found, strict=True))
        print(f"| {variant.name} | {statistics.median(spent):.1f} | {more:+.1f} |")


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


Ask = Callable[[HTTPConnection], int]


def _refused(connection: HTTPConnection) -> int:
    return _ask(connection, "POST", "/v1/chat/completions", json.dumps(CHAT))


def _answered(connection: HTTPConnection) -> int:
    return _ask(connection, "GET", "/health", None)


CHAT = {"messages": [{"role": "user", "content": "Tell me a story. " * 20}], "stream": True}


def _ask(connection: HTTPConnection, method: str, path: str, body: str | None) -> int:
    connection.request(method, path, body)
    response = connection.getresponse()
    response.read()
    return response.status


@contextmanager
def full_server(folder: Path, level: str) -> Iterator[Server]:
    """A server with one place, which a reader that never reads has taken."""
    options = ("--max-streams=1", "--log-format=json", "--stall-deadline-s=600", "--drain-s=0")
    server = Server(folder / f"log-{level}", *options, f"--log-level={level}")
    try:
        peer = Raw(server, small=True)
        peer.send(HANDSHAKE)
        peer.read_until(b"\r\n\r\n")
        peer.send(start({"prompt": "Once", "max_tokens": 100, "ignore_eos": True, "credits": 1}))
        while not server.gauge("parked") + server.gauge("evicted"):
            time.sleep(0.1)
        yield server
    finally:
        server.stop()


def refusals(rounds: int, requests: int) -> None:
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        servers: dict[str, AbstractContextManager[Server]] = {
            level: full_server(Path(folder), level) for level in ("info", "error")
        }
        with servers["info"] as loud, servers["error"] as quiet:
            kinds: list[tuple[str, Server, Ask, int]] = [
                ("refused with 429 and its line", loud, _refused, 429),
                ("refused with 429, lines off", quiet, _refused, 429),
                ("GET /health", quiet, _answered, 200),
            ]
            for _ in range(rounds):
                for name, server, ask, status in kinds:
                    found.setdefault(name, []).append(_cost_us(server, ask, status, requests))
    print(f"\nCPU of the server for each request, {rounds} rounds of {requests}\n")
    print("| request | µs |\n|---|---|")
    for name, spent in found.items():
        print(f"| {name} | {statistics.median(spent):.0f} |")


def _cost_us(server: Server, ask: Ask, status: int, requests: int) -> float:
    connection = HTTPConnection(server.host, server.port)
    before_s = cpu_s(server.process.pid)
    for _ in range(requests):
        got: Any = ask(connection)
        assert got == status, got
    spent_s = cpu_s(server.process.pid) - before_s
    connection.close()
    return spent_s / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=4, help="waves of 16 streams in a round")
    parser.add_argument("--requests", type=int, default=1000, help="refused ones in a round")
    asked = parser.parse_args()
    per_token(asked.rounds, asked.repeats)
    refusals(max(asked.rounds // 3, 1), asked.requests)


if __name__ == "__main__":
    main()
