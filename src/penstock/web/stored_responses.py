"""Responses that are kept: retrieved, read again as a stream, cancelled, deleted, gone on from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from quart import Response, request
from quart_trio import QuartTrio

from penstock.errors import PenstockError, invalid
from penstock.jobs.job import JobState
from penstock.jobs.store import Log
from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.blocks import read
from penstock.protocols.responses import Asked
from penstock.protocols.responses_answer import StreamEncoder
from penstock.protocols.responses_head import Head
from penstock.protocols.responses_stored import (
    follow_up,
    is_streamed,
    parse_after,
    parse_id,
    render_stored,
    unknown,
)
from penstock.protocols.sse import dump
from penstock.requests import Caller
from penstock.service import Service
from penstock.web.door import caller_of
from penstock.web.exchange import Exchange, while_connected
from penstock.web.jobs import read_log

PATH = "/v1/responses/"


def number_of(log: Log) -> str:
    return log.job.job_id.removeprefix("job_")


def job_of(number: str) -> str:
    return f"job_{number}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that is kept."""

    log: Log
    head: Head
    parser: AnswerParser | None


async def find(service: Service, caller: Caller, response_id: str) -> Stored:
    """Raises `PenstockError`."""
    try:
        log = await service.jobs.find(caller.scope, parse_id(response_id))
    except PenstockError:
        raise unknown() from None
    order = log.job.order
    if not order.about:  # a job that was asked for as one
        raise unknown()
    parser = service.resolve(order.model, caller).speech.parser(order.request)
    return Stored(log, Head.read(number_of(log), order.model, order.about), parser)


async def go_on(service: Service, caller: Caller, asked: Asked) -> Asked:
    """`asked` with the conversation that it goes on from. Raises `PenstockError`."""
    if asked.previous is None:
        return asked
    try:
        before = await find(service, caller, asked.previous)
    except PenstockError as error:
        raise invalid("previous_response_id", error.message) from None
    state = await before.log.state()
    if state.status != "completed":
        raise invalid("previous_response_id", "previous_response_id: that response has no end yet")
    blocks = read(await before.log.text(), before.parser)
    earlier = before.log.job.order.request.messages or ()
    messages = follow_up(earlier, before.head, blocks, asked)
    return replace(asked, request=replace(asked.request, messages=messages))


def wants_stream(scope: dict[str, object]) -> bool:
    """Whether this is GET /v1/responses/{id}?stream=true."""
    path, query = scope["path"], scope["query_string"]
    assert isinstance(path, str)
    assert isinstance(query, bytes)
    named = path.startswith(PATH) and "/" not in path.removeprefix(PATH)
    return named and scope["method"] == "GET" and is_streamed(query)


async def read_stored(service: Service, exchange: Exchange) -> None:
    """The events of a response, behind the last that was read."""
    after = parse_after(exchange.scope["query_string"])
    stored = await find(service, exchange.caller, exchange.scope["path"].removeprefix(PATH))
    encoder = StreamEncoder(stored.head, stored.parser, after=after)
    await while_connected(exchange, partial(read_log, service, exchange, stored.log, 0, encoder))


def add_stored_responses(app: QuartTrio, service: Service) -> None:
    """The routes that answer with JSON about a response."""
    jobs = service.jobs

    @app.get("/v1/responses/<response_id>")
    async def response(response_id: str) -> Response:
        return await _told(await find(service, caller_of(request.scope), response_id))

    @app.post("/v1/responses/<response_id>/cancel")
    async def cancel_response(response_id: str) -> Response:
        stored = await find(service, caller_of(request.scope), response_id)
        return await _told(stored, await jobs.cancel(stored.log))

    @app.delete("/v1/responses/<response_id>")
    async def delete_response(response_id: str) -> Response:
        await jobs.delete((await find(service, caller_of(request.scope), response_id)).log)
        return _json({"id": response_id, "object": "response", "deleted": True})


async def _told(stored: Stored, state: JobState | None = None) -> Response:
    state = state or await stored.log.state()
    text = await stored.log.text()
    return _json(render_stored(stored.head, stored.parser, state, text))


def _json(value: object) -> Response:
    return Response(dump(value), 200, content_type="application/json")
