"""Tabby's part of /v1/completions, and what its agent asks a server besides."""

from __future__ import annotations

import os
import platform

from penstock import origin
from penstock.protocols import tabby
from penstock.requests import Caller
from penstock.service import Service
from penstock.web.answer import answer, served_for
from penstock.web.exchange import Exchange
from penstock.web.stream import WholeSink


async def complete(service: Service, exchange: Exchange, body: bytes) -> None:
    fills_gaps = served_for(service, exchange, None).tokenizer.fim is not None
    request = tabby.parse(body, fills_gaps=fills_gaps)
    encoder = tabby.Encoder(origin.current().number)
    sink = WholeSink(exchange)
    await answer(service, exchange, request, encoder, sink)


async def take_events(service: Service, exchange: Exchange) -> None:
    """The agent reports what was shown and taken; nothing of it is kept."""
    await exchange.read_body(service.limits.max_body_bytes)
    await exchange.respond(200, (), b"")


def health(service: Service, caller: Caller) -> dict[str, object]:
    served = service.resolve(None, caller)
    return tabby.render_health(
        served.name,
        device=served.device,
        machine=platform.machine(),
        cpus=os.cpu_count() or 1,
    )
