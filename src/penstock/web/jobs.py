"""The job API: JSON about jobs, and GET /v1/stream."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from urllib.parse import parse_qs

from quart import Response, request
from quart_trio import QuartTrio

from penstock.errors import INVALID_VALUE, PenstockError
from penstock.events import Delta, Ended, Event, Failed, Finished
from penstock.jobs.job import Order
from penstock.jobs.replay import Reading
from penstock.jobs.store import Log
from penstock.pipeline import Encoder
from penstock.protocols import jobs as protocol
from penstock.protocols import sse
from penstock.service import Service
from penstock.web.door import caller_of
from penstock.web.exchange import Exchange, while_connected


class LogSink:
    """Server-sent events of a log. How the job ended is always an event, never a status."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def open(self) -> None:
        """Headers wait for the first bytes."""

    async def permit(self, event: Event | None) -> bool:
        """HTTP has no say but its windows."""
        return True

    def write_nowait(self, data: bytes, event: Delta | Ended) -> bool:
        return self._exchange.write_nowait(data)

    async def write(self, data: bytes, event: Event | None) -> None:
        if not self._exchange.responding:
            await self._exchange.start(200, sse.HEADERS)
        await self._exchange.write(data, last=isinstance(event, Finished | Failed))

    def release(self) -> None:
        """Nothing is held back here."""


async def stream(service: Service, exchange: Exchange) -> None:
    """GET /v1/stream?job_id=…"""
    fields = parse_qs(exchange.scope["query_string"].decode("latin-1"))
    job_id = fields.get("job_id", [""])[-1]
    if not job_id:
        raise PenstockError(INVALID_VALUE, "job_id is required in the query", param="job_id")
    told = fields.get("last_event_id", [None])[-1]
    after = protocol.parse_position(exchange.header(b"last-event-id"), told)
    log = await service.jobs.find(exchange.caller.scope, job_id)
    encoder = protocol.JobStreamEncoder(job_id, after)
    await while_connected(exchange, partial(read_log, service, exchange, log, after, encoder))


async def read_log(
    service: Service, exchange: Exchange, log: Log, after: int, encoder: Encoder
) -> None:
    """The events of a job behind number `after`; 204, which ends an EventSource, if none will be.

    Who is ahead of a running job waits for it to come as far.
    """
    state = await log.state()
    ahead = after > state.last_id or (state.terminal is not None and after == state.last_id)
    if ahead and not await log.read(after, 1):
        await exchange.respond(204, (), b"")
        return
    await service.read(log, after, encoder, LogSink(exchange), Reading())


def add_jobs(app: QuartTrio, service: Service) -> None:
    """The routes that answer with JSON about jobs."""
    jobs = service.jobs

    @app.post("/v1/jobs")
    async def submit() -> Response:
        key = protocol.parse_key(_header("Idempotency-Key"))
        asked = protocol.parse_job(await _body())
        caller = caller_of(request.scope)
        order = Order(
            request=replace(asked.request, caller=caller),
            model=service.resolve(asked.request.model, caller).name,
            owner=caller.scope,
            keep_s=jobs.bounds.keep_s,
            window=asked.window,
            key=key,
            digest=asked.digest,
        )
        made = await jobs.submit(order)
        told = protocol.render_submitted(await made.log.state())
        response = _json(told, 200 if made.replayed else 202)
        if made.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    @app.get("/v1/jobs")
    async def listed() -> Response:
        limit = protocol.parse_limit(request.args.get("limit"))
        # As they were when they were looked up: one that is forgotten meanwhile hides no others.
        states = [log.known() for log in await jobs.listed(_owner(), limit)]
        data = [protocol.render_summary(state) for state in states]
        return _json({"object": "list", "data": data})

    @app.get("/v1/jobs/<job_id>")
    async def one(job_id: str) -> Response:
        return await _told(await jobs.find(_owner(), job_id))

    @app.post("/v1/jobs/<job_id>/cancel")
    async def cancel(job_id: str) -> Response:
        log = await jobs.find(_owner(), job_id)
        await jobs.cancel(log)
        return await _told(log)

    @app.post("/v1/jobs/<job_id>/ack")
    async def acknowledge(job_id: str) -> Response:
        event_id = protocol.parse_ack(await _body())
        state = await jobs.acknowledge(await jobs.find(_owner(), job_id), event_id)
        return _json({"job_id": job_id, "acknowledged": state.acknowledged})

    @app.delete("/v1/jobs/<job_id>")
    async def delete(job_id: str) -> Response:
        await jobs.delete(await jobs.find(_owner(), job_id))
        return _json({"job_id": job_id, "deleted": True})


async def _told(log: Log) -> Response:
    return _json(protocol.render_job(await log.state(), await log.text()))


def _json(value: object, status: int = 200) -> Response:
    return Response(sse.dump(value), status, content_type="application/json")


async def _body() -> bytes:
    body = await request.get_data(as_text=False)
    assert isinstance(body, bytes)
    return body


def _owner() -> str:
    return caller_of(request.scope).scope


def _header(name: str) -> bytes | None:
    value = request.headers.get(name)
    return None if value is None else value.encode("latin-1", "replace")
