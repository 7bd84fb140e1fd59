"""POST /v1/messages and /v1/messages/count_tokens: Anthropic."""

from __future__ import annotations

from penstock import origin
from penstock.pipeline import Encoder, Sink
from penstock.protocols import anthropic
from penstock.protocols.anthropic_answer import Head, StreamEncoder, WholeEncoder
from penstock.protocols.sse import dump
from penstock.service import Service
from penstock.web.answer import answer, served_for
from penstock.web.exchange import JSON, Exchange
from penstock.web.stream import StreamSink, WholeSink


async def messages(service: Service, exchange: Exchange) -> None:
    asked = anthropic.parse(await exchange.read_body(service.limits.max_body_bytes))
    served = served_for(service, exchange, asked.request.model)
    head = Head(origin.current().number, served.name)
    parser = served.speech.parser(asked.request)
    encoder: Encoder = WholeEncoder(head, parser=parser)
    sink: Sink = WholeSink(exchange)
    if asked.stream:
        live = exchange.live
        encoder = StreamEncoder(head, parser=parser, prompt_tokens=lambda: live.prompt_tokens)
        sink = StreamSink(exchange)
    await answer(service, exchange, asked.request, encoder, sink)


async def count_tokens(service: Service, exchange: Exchange) -> None:
    request = anthropic.parse_count(await exchange.read_body(service.limits.max_body_bytes))
    tokens = await served_for(service, exchange, request.model).count(request)
    told = dump({"input_tokens": len(tokens)})
    await exchange.respond(200, JSON, told.encode("ascii"))
