"""POST /v1/responses: OpenAI."""

from __future__ import annotations

from functools import partial
from time import time

from penstock.pipeline import Encoder, Sink
from penstock.protocols.responses import parse
from penstock.protocols.responses_answer import Head, StreamEncoder, WholeEncoder
from penstock.service import Service
from penstock.web.exchange import Exchange, while_connected
from penstock.web.stream import StreamSink, WholeSink


async def responses(service: Service, exchange: Exchange) -> None:
    asked = parse(await exchange.read_body(service.limits.max_body_bytes))
    model = service.resolve(asked.request.model).name
    head = Head(exchange.number, model, int(time()), asked.repeated)
    encoder: Encoder = WholeEncoder(head)
    sink: Sink = WholeSink(exchange)
    if asked.stream:
        encoder, sink = StreamEncoder(head), StreamSink(exchange)
    generate = partial(service.generate, asked.request, encoder, sink, exchange.live)
    await while_connected(exchange, generate)
