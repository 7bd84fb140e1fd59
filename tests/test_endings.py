"""Every way a generation ends: its event, its log line, its metrics and its span say the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeAlias, cast

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock import origin
from penstock.access.memory_ledger import MemoryLedger
from penstock.build import assemble
from penstock.engine.engine import Engine
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import CANCELLED, PenstockError
from penstock.events import Failed, Finished, Terminal
from penstock.jobs.store import Log
from penstock.live import Live
from penstock.origin import Origin
from penstock.otel import Spans
from penstock.requests import Caller, GenerateRequest, Limit, Sampling
from penstock.service import Service
from penstock.settings import Settings
from tests.peers import GatedSink, PlainEncoder
from tests.simulation.scripted import Script, ScriptedEngine, TimedThread

TURN_S = 0.25
SETTINGS = Settings(
    slots=1, job_wall_s=3.0, resume_window_s=2.0, stall_deadline_s=5.0, heartbeat_s=1e6
)
ASK = GenerateRequest(
    prompt="Once upon a time", max_tokens=20, sampling=Sampling(seed=1), caller=Caller("ann")
)
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ORIGIN = Origin(
    request_id="r-1", route="/v1/x", traceparent=f"00-{TRACE_ID}-{PARENT_ID}-01", tracestate="a=b"
)


@dataclass
class World:
    """A service of which every turn takes a quarter of a second, and what its tracer was told."""

    service: Service
    engine: ScriptedEngine
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.service.trace = Spans(provider.get_tracer("test"))

    async def stream(
        self,
        request: GenerateRequest = ASK,
        *,
        permits: float = 1000,
        after_s: float = 0,
        then: Callable[[Live, trio.CancelScope], object] = lambda live, scope: None,
    ) -> Terminal | None:
        """What a stream is told at last, where `then` happens to it after a while."""
        sink, live = GatedSink(permits), Live()
        async with trio.open_nursery() as nursery:

            async def generate() -> None:
                await self.service.generate(request, PlainEncoder(), sink, live)
                nursery.cancel_scope.cancel()

            nursery.start_soon(generate)
            if after_s:
                await trio.sleep(after_s)
                then(live, nursery.cancel_scope)
        last = sink.written[-1] if sink.written else None
        return last if isinstance(last, Finished | Failed) else None

    async def job(self, request: GenerateRequest = ASK) -> Log:
        jobs = self.service.jobs
        order = replace(jobs.attended(request, "default"), unread_s=1e6)
        return (await jobs.submit(order)).log


async def _stop(world: World) -> Terminal | None:
    script = Script(world.service.default.tokenizer)
    prompt = await world.service.default.prepare(ASK)
    pieces, _, _ = script.pieces(prompt, ())
    return await world.stream(replace(ASK, stop=(pieces[5],)))


async def _length(world: World) -> Terminal | None:
    return await world.stream()


async def _client(world: World) -> Terminal | None:
    error = PenstockError(CANCELLED, "cancelled by the client")
    return await world.stream(after_s=2, then=lambda live, _: live.stop(error))


async def _disconnect(world: World) -> Terminal | None:
    return await world.stream(after_s=2, then=lambda _, scope: scope.cancel())


async def _disconnect_in_the_queue(world: World) -> Terminal | None:
    return await world.stream(after_s=TURN_S / 4, then=lambda _, scope: scope.cancel())


async def _stalled(world: World) -> Terminal | None:
    return await world.stream(permits=2)


async def _shutdown(world: World) -> Terminal | None:
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await trio.sleep(2)
            await world.service.drain(0)

        nursery.start_soon(drain)
        return await world.stream()


async def _failed(world: World) -> Terminal | None:
    def break_engine(live: Live, scope: trio.CancelScope) -> None:
        world.engine.faults = 1

    return await world.stream(after_s=2, then=break_engine)


async def _quota(world: World) -> Terminal | None:
    world.service.ledger = MemoryLedger(lambda: 0.0)
    caller = Caller("ann", limits=(Limit("tokens_per_day", 12),))
    return await world.stream(replace(ASK, caller=caller))


async def _job(world: World) -> Terminal | None:
    log = await world.job(replace(ASK, max_tokens=5))
    await log.wait_end()
    return (await log.state()).terminal


async def _job_cancelled(world: World) -> Terminal | None:
    log = await world.job()
    await trio.sleep(2)
    return (await world.service.jobs.cancel(log)).terminal


async def _job_quota(world: World) -> Terminal | None:
    world.service.ledger = MemoryLedger(lambda: 0.0)
    caller = Caller("ann", limits=(Limit("tokens_per_day", 12),))
    log = await world.job(replace(ASK, caller=caller))
    await log.wait_end()
    return (await log.state()).terminal


async def _deadline(world: World) -> Terminal | None:
    log = await world.job()
    await log.wait_end()
    return (await log.state()).terminal


async def _unread(world: World) -> Terminal | None:
    jobs = world.service.jobs
    log = (await jobs.submit(jobs.attended(ASK, "default"))).log
    await log.wait_end()
    return (await log.state()).terminal


async def _job_shutdown(world: World) -> Terminal | None:
    log = await world.job()
    await trio.sleep(2)
    await world.service.drain(0)
    return (await log.state()).terminal


Case: TypeAlias = Callable[[World], Awaitable[Terminal | None]]
# How it comes about, the reason, its counter, the code that the reader is told.
CASES: list[tuple[Case, str, str, str | None]] = [
    (_stop, "stop", "finished", None),
    (_length, "length", "finished", None),
    (_job, "length", "finished", None),
    (_client, "client", "cancelled", "cancelled"),
    (_job_cancelled, "client", "cancelled", "cancelled"),
    (_disconnect, "disconnect", "cancelled", None),
    (_disconnect_in_the_queue, "disconnect", "cancelled", None),
    (_unread, "unread", "cancelled", "unread"),
    (_stalled, "stalled", "failed", None),
    (_deadline, "deadline", "failed", "deadline_exceeded"),
    (_quota, "quota", "failed", "quota_exceeded"),
    (_job_quota, "quota", "failed", "quota_exceeded"),
    (_shutdown, "shutdown", "failed", "unavailable"),
    (_job_shutdown, "shutdown", "failed", "unavailable"),
    (_failed, "failed", "failed", "internal_error"),
]


def make_world(tokenizer: Tokenizer) -> World:
    engine = ScriptedEngine(Script(tokenizer), slots=1, random=Random(1))
    service = assemble(SETTINGS, "default", cast("Engine", engine), tokenizer)
    service.default.decoder.thread = service._thread = TimedThread(Random(1), (TURN_S,))
    return World(service, engine)


async def live_through(world: World, case: Case) -> tuple[Terminal | None, dict[str, Any]]:
    """What the reader was told, and the one line about it."""
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.service.run)
            with origin.entered(ORIGIN):
                told = await case(world)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    (line,) = [line for line in lines if line["event"] == "generation ended"]
    return told, dict(line)


def read(service: Service) -> dict[str, float]:
    page = service.metrics.render().decode()
    return {
        sample.name.removeprefix("penstock_") + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }


ENDED = ("requests_finished", "requests_failed", "requests_cancelled")


@pytest.mark.parametrize(
    ("case", "reason", "counter", "code"), CASES, ids=lambda it: getattr(it, "__name__", None)
)
async def test_all_tell_the_same(
    tokenizer: Tokenizer,
    autojump_clock: MockClock,
    case: Case,
    reason: str,
    counter: str,
    code: str | None,
) -> None:
    world = make_world(tokenizer)
    told, line = await live_through(world, case)
    metrics = read(world.service)
    (span,) = world.spans.get_finished_spans()

    ended = {name: value for name, value in metrics.items() if name.startswith(ENDED) and value}
    assert ended == {f"requests_{counter}_total{reason}": 1}
    assert line["reason"] == reason
    assert (told.error.kind.code if isinstance(told, Failed) else None) == code
    if isinstance(told, Finished):
        assert told.finish_reason == reason
        assert told.usage.completion_tokens == line["completion_tokens"]
        assert told.usage.prompt_tokens == line["prompt_tokens"]
    if told is not None and told.figures is not None:
        assert told.figures.tokens == line["completion_tokens"]
        assert told.figures.ttft_s == pytest.approx(line["ttft_s"])
        assert told.figures.queue_s == pytest.approx(line["queue_s"])
        assert told.figures.tokens_per_s == pytest.approx(line["tokens_per_s"])
    agree(line, metrics, span)


def agree(line: dict[str, Any], metrics: dict[str, float], span: ReadableSpan) -> None:
    """The log line and the metrics, and the log line and the span."""
    assert metrics["prompt_tokens_total"] == line["prompt_tokens"] == 5
    assert metrics["generated_tokens_total"] == line["completion_tokens"]
    assert metrics["undelivered_tokens_total"] == line["undelivered_tokens"]
    assert metrics["writer_blocked_seconds_total"] == pytest.approx(line["blocked_s"], abs=1e-6)
    assert metrics["generation_seconds_sum"] == pytest.approx(line["total_s"], abs=1e-6)
    assert metrics["queue_seconds_count"] == ("queue_s" in line)
    assert metrics["queue_seconds_sum"] == pytest.approx(line.get("queue_s", 0), abs=1e-6)
    first_s = metrics["time_to_first_token_seconds_sum"]
    assert first_s == pytest.approx(line.get("ttft_s", 0), abs=1e-6)
    assert (line["account"], line["model"], line["request_id"]) == ("ann", "default", "r-1")

    told = dict(span.attributes or {})
    assert span.kind is SpanKind.SERVER
    assert span.name == "text_completion default"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert told["gen_ai.usage.input_tokens"] == line["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == line["completion_tokens"]
    assert told["penstock.reason"] == line["reason"]
    assert told.get("error.type") == line.get("code", told.get("error.type"))
    finished = line["reason"] in ("stop", "length")
    assert ("gen_ai.response.finish_reasons" in told) == finished
    assert ("error.type" in told) != finished
    wanted = finished or line.get("code") in (None, "cancelled", "unread")
    assert span.status.status_code is (StatusCode.UNSET if wanted else StatusCode.ERROR)
    assert span.start_time is not None
    assert span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(line["total_s"], abs=1e-5)
    at_s = {event.name: (event.timestamp - span.start_time) / 1e9 for event in span.events}
    assert at_s.pop("penstock.queue") == 0
    expected = {"penstock.prefill": "queue_s", "penstock.decode": "ttft_s"}
    assert at_s == {
        name: pytest.approx(line[figure], abs=1e-5)
        for name, figure in expected.items()
        if figure in line
    }


@pytest.mark.parametrize("traceparent", ["", "rubbish", "00-0-0-00", "00-" + "f" * 200])
async def test_a_trace_header_that_is_malformed_begins_a_new_trace(
    tokenizer: Tokenizer, autojump_clock: MockClock, traceparent: str
) -> None:
    world = make_world(tokenizer)

    async def case(world: World) -> Terminal | None:
        with origin.entered(replace(ORIGIN, traceparent=traceparent)):
            return await world.stream()

    await live_through(world, case)
    (span,) = world.spans.get_finished_spans()
    assert span.parent is None
