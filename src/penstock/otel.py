"""Spans by OpenTelemetry's conventions for generative AI. Only `tracing.py` imports this.

A span is made when its generation has ended, with the times it had: so it is made once, of the same
figures as the log line and the metrics, however the generation ended, and costs a token nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import time_ns

import trio
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from penstock.accounting import Trace
from penstock.ending import Ending
from penstock.errors import CANCELLED, UNREAD

PROVIDER = "penstock"
_UNWANTED = {None, CANCELLED.code, UNREAD.code}
"""Codes of endings that are nobody's fault."""
_propagator = TraceContextTextMapPropagator()


def export_spans(*, console: bool = False) -> Trace:
    """Spans that a thread of the SDK exports in batches, as the standard variables say.

    Resource handling: what has not been exported is when the process exits.
    """
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: PROVIDER}))
    provider = TracerProvider(resource=resource)
    exporter = ConsoleSpanExporter() if console else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Spans(provider.get_tracer("penstock"))


class Spans:
    """Makes the span of each generation that it is told of."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __call__(self, ending: Ending) -> None:
        # Trio's clock starts anywhere; spans have the time of day.
        epoch_ns = time_ns() - int(trio.current_time() * 1e9)
        span = self._tracer.start_span(
            f"{_operation(ending)} {ending.asked.model}",
            context=_parent(ending),
            kind=SpanKind.SERVER,
            attributes=dict(_attributes(ending)),
            start_time=epoch_ns + int(ending.asked.arrived_s * 1e9),
        )
        for name, at_s in _phases(ending):
            span.add_event(name, timestamp=epoch_ns + int(at_s * 1e9))
        if ending.code not in _UNWANTED:
            span.set_status(Status(StatusCode.ERROR, ending.code))
        span.end(epoch_ns + int(ending.ended_at_s * 1e9))


def _parent(ending: Ending) -> Context:
    """What the client's headers name; a root where there is nothing or it is malformed."""
    origin = ending.origin
    carrier = {"traceparent": origin.traceparent, "tracestate": origin.tracestate}
    return _propagator.extract(carrier, Context())


def _operation(ending: Ending) -> str:
    return "chat" if ending.asked.chat else "text_completion"


def _phases(ending: Ending) -> Iterator[tuple[str, float]]:
    yield "penstock.queue", ending.asked.arrived_s
    if ending.seated_at_s is not None:
        yield "penstock.prefill", ending.seated_at_s
    if ending.first_at_s is not None:
        yield "penstock.decode", ending.first_at_s


def _attributes(ending: Ending) -> Iterator[tuple[str, AttributeValue]]:
    prompt, sampling = ending.prompt, ending.prompt.sampling
    yield "gen_ai.operation.name", _operation(ending)
    yield "gen_ai.provider.name", PROVIDER
    yield "gen_ai.request.model", ending.asked.model
    yield "gen_ai.response.model", ending.asked.model
    yield "gen_ai.request.max_tokens", prompt.max_tokens
    yield "gen_ai.request.temperature", sampling.temperature
    yield "gen_ai.request.top_p", sampling.top_p
    yield "gen_ai.request.top_k", float(sampling.top_k)
    yield "gen_ai.request.frequency_penalty", sampling.frequency_penalty
    yield "gen_ai.request.presence_penalty", sampling.presence_penalty
    if sampling.seed is not None:
        yield "gen_ai.request.seed", sampling.seed
    if prompt.n != 1:
        yield "gen_ai.request.choice.count", prompt.n
    yield "gen_ai.usage.input_tokens", len(prompt.token_ids)
    yield "gen_ai.usage.output_tokens", ending.completion_tokens
    if ending.origin.generation_id:
        yield "gen_ai.response.id", ending.origin.generation_id
    if ending.reason in ("stop", "length"):
        yield "gen_ai.response.finish_reasons", (ending.reason,)
    else:
        yield "error.type", ending.code or ending.reason
    yield "http.route", ending.origin.route
    yield "penstock.request_id", ending.origin.request_id
    yield "penstock.account", prompt.caller.account
    yield "penstock.reason", ending.reason
    yield "penstock.undelivered_tokens", ending.undelivered_tokens
    yield "penstock.blocked_s", ending.blocked_s
