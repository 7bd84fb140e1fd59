"""Tabby's part of /v1/completions, and what its agent asks a server besides."""

from __future__ import annotations

import os
import platform
from functools import partial

from penstock.protocols import tabby
from penstock.service import Service
from penstock.web.exchange import Exchange, while_connected
from penstock.web.stream import WholeSink


async def complete(service: Service, exchange: Exchange, body: bytes) -> None:
    fills_gaps = service.default.tokenizer.fim is not None
    request = tabby.parse(body, fills_gaps=fills_gaps)
    encoder = tabby.Encoder(exchange.number)
    sink = WholeSink(exchange)
    generate = partial(service.generate, request, encoder, sink, exchange.live)
    await while_connected(exchange, generate)


async def take_events(service: Service, exchange: Exchange) -> None:
    """The agent reports what was shown and taken; nothing of it is kept."""
    await exchange.read_body(service.limits.max_body_bytes)
    await exchange.respond(200, (), b"")


def health(service: Service) -> dict[str, object]:
    served = service.default
    return tabby.render_health(
        served.name,
        device=served.decoder.engine.model.device,
        machine=platform.machine(),
        cpus=os.cpu_count() or 1,
    )
