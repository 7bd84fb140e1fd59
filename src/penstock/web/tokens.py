"""POST /tokenize and /detokenize: token ids of a text, and back."""

from __future__ import annotations

from penstock.engine.vocabulary import Spelling
from penstock.protocols.sse import dump
from penstock.protocols.tokens import parse_detokenize, parse_tokenize, render_tokens
from penstock.service import Service
from penstock.web.answer import served_for
from penstock.web.exchange import JSON, Exchange


async def tokenize(service: Service, exchange: Exchange) -> None:
    body = await exchange.read_body(service.limits.max_body_bytes)
    request, named = parse_tokenize(body)
    served = served_for(service, exchange, request.model)
    tokens = await served.count(request)
    spell = Spelling(served.tokenizer.vocabulary) if named else None
    names = [spell(token_id)[0] for token_id in tokens] if spell else None
    told = render_tokens(tokens, max_len=served.max_len, names=names)
    await exchange.respond(200, JSON, dump(told).encode("ascii"))


async def detokenize(service: Service, exchange: Exchange) -> None:
    body = await exchange.read_body(service.limits.max_body_bytes)
    model, tokens = parse_detokenize(body)
    text = await served_for(service, exchange, model).spell(tokens)
    await exchange.respond(200, JSON, dump({"prompt": text}).encode("ascii"))
