"""What all routes that generate at once have in common."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from penstock import origin
from penstock.errors import CANCELLED, PenstockError
from penstock.events import Terminal
from penstock.live import Live
from penstock.pipeline import Encoder, Sink
from penstock.requests import GenerateRequest
from penstock.served import Offered
from penstock.service import Service
from penstock.web.exchange import Exchange, while_connected


def served_for(service: Service, exchange: Exchange, model: str | None) -> Offered:
    """The model for what this client asked for. Raises `PenstockError`."""
    return service.resolve(model, exchange.caller)


async def answer(
    service: Service,
    exchange: Exchange,
    request: GenerateRequest,
    encoder: Encoder,
    sink: Sink,
    *,
    name: str = "",
) -> None:
    """Generate on this client's account until it leaves. `name` is what the answer calls itself."""
    origin.name_generation(name)
    exchange.end = partial(_cancel, exchange.live)
    asked = replace(request, caller=exchange.caller)
    generate = partial(service.generate, asked, encoder, sink, exchange.live)
    await while_connected(exchange, generate)


async def _cancel(live: Live) -> Terminal | None:
    live.stop(PenstockError(CANCELLED, "cancelled by the client"))
    return live.terminal
