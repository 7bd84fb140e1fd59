"""GET /chat/stream."""

from __future__ import annotations

from functools import partial

from penstock.protocols.native import ChatStreamEncoder, parse_query
from penstock.service import Service
from penstock.web.exchange import Exchange, while_connected
from penstock.web.stream import StreamSink


async def chat_stream(service: Service, exchange: Exchange) -> None:
    if exchange.header(b"last-event-id"):
        # EventSource reconnects after every end. 204 is the one polite way to make it stop; without
        # it the prompt would run again every second for ever.
        await exchange.respond(204, (), b"")
        return
    request = parse_query(exchange.scope["query_string"])
    encoder = ChatStreamEncoder(f"job_{exchange.number}")
    sink = StreamSink(exchange)
    generate = partial(service.generate, request, encoder, sink, exchange.live)
    await while_connected(exchange, generate)
