"""POST /v1/responses: OpenAI. What is stored is kept as a job; what is in the background is one."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from time import time

from penstock import origin
from penstock.errors import PenstockError
from penstock.events import Delta, Event, Finished
from penstock.jobs.job import Order
from penstock.jobs.jobs import Jobs
from penstock.pipeline import Encoder, Sink
from penstock.protocols.responses import Asked, parse
from penstock.protocols.responses_answer import StreamEncoder, WholeEncoder
from penstock.protocols.responses_head import Head
from penstock.protocols.sse import dump
from penstock.served import Offered
from penstock.service import Service
from penstock.web.answer import answer, served_for
from penstock.web.exchange import JSON, Exchange, while_connected
from penstock.web.jobs import read_log
from penstock.web.stored_responses import go_on, job_of, number_of
from penstock.web.stream import StreamSink, WholeSink

log = logging.getLogger(__name__)


async def responses(service: Service, exchange: Exchange) -> None:
    asked = parse(await exchange.read_body(service.limits.max_body_bytes))
    asked = await go_on(service, exchange.caller, asked)
    served = served_for(service, exchange, asked.request.model)
    head = Head(origin.current().number, served.name, int(time()), asked.repeated)
    order = Order(
        request=replace(asked.request, caller=exchange.caller),
        model=served.name,
        keep_s=service.jobs.bounds.keep_s,
        owner=exchange.caller.scope,
        listed=False,
        about=head.dump(),
    )
    if asked.background:
        submit = partial(_submit, service, exchange, order, asked, head, served)
        await while_connected(exchange, submit)
    else:
        await _answer(service, exchange, order, asked, head, served)


async def _submit(
    service: Service, exchange: Exchange, order: Order, asked: Asked, head: Head, served: Offered
) -> None:
    """A job, whether or not anybody reads it."""
    made = (await service.jobs.submit(order)).log
    head = replace(head, number=number_of(made))
    if asked.stream:
        parser = served.speech.parser(order.request)
        await read_log(service, exchange, made, 0, StreamEncoder(head, parser))
        return
    told = dump(head.response("queued"))
    await exchange.respond(200, JSON, told.encode("ascii"))


async def _answer(
    service: Service, exchange: Exchange, order: Order, asked: Asked, head: Head, served: Offered
) -> None:
    """An answer that ends with its reader; it is kept, where there is room, once it has ended."""
    store = asked.store and service.jobs.can_keep(order)
    head = replace(head, repeated={**head.repeated, "store": store})
    parser = served.speech.parser(order.request)
    encoder: Encoder = (StreamEncoder if asked.stream else WholeEncoder)(head, parser)
    if store:
        encoder = kept = Kept(service.jobs, job_of(head.number), order, encoder)
        sink: Sink = (StreamSink if asked.stream else WholeSink)(exchange, kept.keep)
    else:
        sink = (StreamSink if asked.stream else WholeSink)(exchange)
    await answer(service, exchange, order.request, encoder, sink)


class Kept:
    """An encoder around another one, which remembers the text that went through it."""

    def __init__(self, jobs: Jobs, job_id: str, order: Order, encoder: Encoder) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._order = order
        self._encoder = encoder
        self._pieces: list[str] = []

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Delta):
            self._pieces.append(event.text)
        return self._encoder.encode(event)

    def heartbeat(self) -> bytes:
        return self._encoder.heartbeat()

    async def keep(self, end: Finished) -> None:
        """Before the end is told, so that whoever has read it finds it."""
        try:
            await self._jobs.keep(self._job_id, self._order, "".join(self._pieces), end)
        except PenstockError:
            log.warning("a response is not kept: others have taken the room meanwhile")
