"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from time import time

from penstock import origin
from penstock.engine.vocabulary import Spelling
from penstock.pipeline import Encoder, Sink
from penstock.protocols import openai
from penstock.protocols.openai_answer import Head, Shape, StreamEncoder, WholeEncoder
from penstock.protocols.openai_logprobs import Logprobs, chat_logprobs, text_logprobs
from penstock.protocols.tabby import is_tabby
from penstock.requests import GenerateRequest
from penstock.served import Offered
from penstock.service import Service
from penstock.web import tabby
from penstock.web.answer import answer, served_for
from penstock.web.exchange import Exchange
from penstock.web.stream import StreamSink, WholeSink


async def chat_completions(service: Service, exchange: Exchange) -> None:
    asked = openai.parse_chat(await exchange.read_body(service.limits.max_body_bytes))
    await _answer(service, exchange, asked, "chat")


async def completions(service: Service, exchange: Exchange) -> None:
    """OpenAI's, or Tabby's: the two share this path."""
    body = await exchange.read_body(service.limits.max_body_bytes)
    if is_tabby(body):
        await tabby.complete(service, exchange, body)
        return
    asked = openai.parse_completion(body)
    await _answer(service, exchange, asked, "text")


async def _answer(service: Service, exchange: Exchange, asked: openai.Asked, shape: Shape) -> None:
    served = served_for(service, exchange, asked.request.model)
    service.check(asked.request)
    head = Head(shape, origin.current().number, served.name, int(time()), exchange.wants_timings)
    logprobs = _logprobs(served, asked.request, shape)
    parsers = served.speech.parsers(asked.request) if shape == "chat" else []
    n = asked.request.n
    encoder: Encoder = WholeEncoder(head, n=n, logprobs=logprobs, echo=asked.echo, parsers=parsers)
    sink: Sink = WholeSink(exchange)
    if asked.stream:
        encoder = StreamEncoder(
            head,
            n=n,
            include_usage=asked.include_usage,
            logprobs=logprobs,
            echo=asked.echo,
            parsers=parsers,
        )
        sink = StreamSink(exchange)
    await answer(service, exchange, asked.request, encoder, sink, name=head.name)


def _logprobs(served: Offered, request: GenerateRequest, shape: Shape) -> list[Logprobs]:
    if request.logprobs is None:
        return []
    render = chat_logprobs if shape == "chat" else text_logprobs
    return [Logprobs(render, Spelling(served.tokenizer.vocabulary)) for _ in range(request.n)]
