"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from functools import partial
from time import time

from penstock.engine.vocabulary import Spelling
from penstock.pipeline import Encoder, Sink
from penstock.protocols import openai
from penstock.protocols.openai_answer import Head, Shape, StreamEncoder, WholeEncoder
from penstock.protocols.openai_logprobs import Logprobs, chat_logprobs, text_logprobs
from penstock.requests import GenerateRequest
from penstock.served import Offered
from penstock.service import Service
from penstock.web.exchange import Exchange, while_connected
from penstock.web.stream import StreamSink, WholeSink


async def chat_completions(service: Service, exchange: Exchange) -> None:
    asked = openai.parse_chat(await exchange.read_body(service.limits.max_body_bytes))
    await _answer(service, exchange, asked, "chat")


async def completions(service: Service, exchange: Exchange) -> None:
    asked = openai.parse_completion(await exchange.read_body(service.limits.max_body_bytes))
    await _answer(service, exchange, asked, "text")


async def _answer(service: Service, exchange: Exchange, asked: openai.Asked, shape: Shape) -> None:
    served = service.resolve(asked.request.model)
    service.check(asked.request)
    head = Head(shape, exchange.number, served.name, int(time()))
    logprobs = _logprobs(served, asked.request, shape)
    n = asked.request.n
    encoder: Encoder = WholeEncoder(head, n=n, logprobs=logprobs)
    sink: Sink = WholeSink(exchange)
    if asked.stream:
        encoder = StreamEncoder(head, n=n, include_usage=asked.include_usage, logprobs=logprobs)
        sink = StreamSink(exchange)
    generate = partial(service.generate, asked.request, encoder, sink, exchange.live)
    await while_connected(exchange, generate)


def _logprobs(served: Offered, request: GenerateRequest, shape: Shape) -> list[Logprobs]:
    if request.logprobs is None:
        return []
    render = chat_logprobs if shape == "chat" else text_logprobs
    return [Logprobs(render, Spelling(served.tokenizer.vocabulary)) for _ in range(request.n)]
