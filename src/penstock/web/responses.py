"""POST /v1/responses: OpenAI."""

from __future__ import annotations

from time import time

from penstock import origin
from penstock.pipeline import Encoder, Sink
from penstock.protocols.responses import parse
from penstock.protocols.responses_answer import Head, StreamEncoder, WholeEncoder
from penstock.service import Service
from penstock.web.answer import answer, served_for
from penstock.web.exchange import Exchange
from penstock.web.stream import StreamSink, WholeSink


async def responses(service: Service, exchange: Exchange) -> None:
    asked = parse(await exchange.read_body(service.limits.max_body_bytes))
    model = served_for(service, exchange, asked.request.model).name
    head = Head(origin.current().number, model, int(time()), asked.repeated)
    encoder: Encoder = WholeEncoder(head)
    sink: Sink = WholeSink(exchange)
    if asked.stream:
        encoder, sink = StreamEncoder(head), StreamSink(exchange)
    await answer(service, exchange, asked.request, encoder, sink)
