"""POST /, /generate and /generate_stream, GET /info: Text Generation Inference."""

from __future__ import annotations

from functools import partial

from penstock import __version__
from penstock.engine.vocabulary import Spelling
from penstock.events import Finished
from penstock.pipeline import Encoder, Sink
from penstock.protocols import tgi
from penstock.protocols.tgi_answer import StreamEncoder, WholeEncoder, render_info
from penstock.protocols.timings import tgi_headers
from penstock.requests import Caller
from penstock.service import Service
from penstock.web.answer import answer, served_for
from penstock.web.exchange import Exchange, Headers
from penstock.web.stream import StreamSink, WholeSink


async def root(service: Service, exchange: Exchange) -> None:
    """As the body's `stream` says; whole, it is a list of one answer."""
    await _answer(service, exchange, tgi.parse(await _read(service, exchange)), listed=True)


async def generate(service: Service, exchange: Exchange) -> None:
    body = await _read(service, exchange)
    await _answer(service, exchange, tgi.parse(body, stream=False))


async def generate_stream(service: Service, exchange: Exchange) -> None:
    body = await _read(service, exchange)
    await _answer(service, exchange, tgi.parse(body, stream=True))


def info(service: Service, caller: Caller) -> dict[str, object]:
    """What clients ask of a server before they use it."""
    served = service.resolve(None, caller)
    return render_info(
        served.name, places=served.places, max_len=served.max_len, version=__version__
    )


def _timings(service: Service, caller: Caller, asked: tgi.Asked, finished: Finished) -> Headers:
    if finished.figures is None:
        return ()
    return tgi_headers(
        finished.figures,
        finished.usage,
        characters=asked.request.characters,
        device=service.resolve(None, caller).device,
    )


async def _read(service: Service, exchange: Exchange) -> bytes:
    return await exchange.read_body(service.limits.max_body_bytes)


async def _answer(
    service: Service, exchange: Exchange, asked: tgi.Asked, *, listed: bool = False
) -> None:
    is_special = Spelling(served_for(service, exchange, None).tokenizer.vocabulary).is_special
    encoder: Encoder = WholeEncoder(asked, is_special, listed=listed)
    sink: Sink = WholeSink(exchange, headers=partial(_timings, service, exchange.caller, asked))
    if asked.stream:
        encoder, sink = StreamEncoder(asked, is_special), StreamSink(exchange)
    await answer(service, exchange, asked.request, encoder, sink)
