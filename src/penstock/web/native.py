"""GET /chat/stream: a job that is read at once, and again by whoever knows the id of an event."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from penstock.errors import UNAVAILABLE, PenstockError
from penstock.events import Terminal
from penstock.jobs.store import Log
from penstock.protocols.native import ChatStreamEncoder, parse_place, parse_query
from penstock.requests import GenerateRequest
from penstock.service import Service
from penstock.web.exchange import Exchange, while_connected
from penstock.web.jobs import read_log


async def chat_stream(service: Service, exchange: Exchange) -> None:
    if told := exchange.header(b"last-event-id"):
        await _resume(service, exchange, told)
        return
    request = replace(parse_query(exchange.scope["query_string"]), caller=exchange.caller)
    await while_connected(exchange, partial(_ask, service, exchange, request))


async def _ask(service: Service, exchange: Exchange, request: GenerateRequest) -> None:
    order = service.jobs.attended(request, service.resolve(request.model, request.caller).name)
    log = (await service.jobs.submit(order)).log
    exchange.end = partial(_cancel, service, log)
    encoder = ChatStreamEncoder(log.job.job_id)
    await read_log(service, exchange, log, 0, encoder)


async def _resume(service: Service, exchange: Exchange, told: bytes) -> None:
    """EventSource reconnects after every end, and would run the prompt again each second.

    204 is the one polite way to make it stop, also where the job is not known any more. Whether it
    is cannot be said while the store is away.
    """
    try:
        job_id, after = parse_place(told) or ("", 0)
        log = await service.jobs.find(exchange.caller.scope, job_id)
    except PenstockError as error:
        if error.kind is UNAVAILABLE:
            raise
        await exchange.respond(204, (), b"")
        return
    exchange.end = partial(_cancel, service, log)
    encoder = ChatStreamEncoder(job_id, after)
    await while_connected(exchange, partial(read_log, service, exchange, log, after, encoder))


async def _cancel(service: Service, log: Log) -> Terminal | None:
    return (await service.jobs.cancel(log)).terminal
