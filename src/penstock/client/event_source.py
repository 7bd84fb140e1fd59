"""A job's events as server-sent events; what was taken is acknowledged by requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
from httpx_sse import EventSource, ServerSentEvent

from penstock.client.asking import ask
from penstock.client.errors import refusal_of
from penstock.client.source import LostError, Told


class JobEvents:
    """`window` is the job's, if it has one."""

    def __init__(self, http: httpx.AsyncClient, job_id: str, window: int | None) -> None:
        self._http = http
        self._job_id = job_id
        self._window = window
        self._acknowledged = 0
        self._response: httpx.Response | None = None
        self._events: AsyncIterator[ServerSentEvent] | None = None

    async def take(self, after: int) -> Told:
        await self._acknowledge(after)
        try:
            if self._events is None:
                self._events = await self._connect(after)
            event = await anext(self._events)
        except (httpx.TransportError, StopAsyncIteration):
            raise LostError from None
        return Told(int(event.id), event.event.removeprefix("job_"), event.json())

    async def close(self) -> None:
        """Close, then read on until that is noticed.

        Closing ends httpx's outer generator alone; those inside would be left to the garbage
        collector, which Trio warns of.
        """
        response, events = self._response, self._events
        self._response = self._events = None
        if response is not None:
            await response.aclose()
        if events is not None:
            with suppress(httpx.TransportError, httpx.StreamError):
                async for _ in events:
                    pass

    async def _acknowledge(self, number: int) -> None:
        """Half a window at a time: one request for several tokens, and the model need not wait."""
        if self._window is None or number - self._acknowledged < max(self._window // 2, 1):
            return
        await ask(self._http, "POST", f"/v1/jobs/{self._job_id}/ack", json={"id": number})
        self._acknowledged = number

    async def _connect(self, after: int) -> AsyncIterator[ServerSentEvent]:
        query, headers = {"job_id": self._job_id}, {"Last-Event-ID": str(after)}
        request = self._http.build_request("GET", "/v1/stream", params=query, headers=headers)
        self._response = await self._http.send(request, stream=True)
        if self._response.status_code != 200:
            await self._response.aread()
            raise refusal_of(self._response)
        return EventSource(self._response).aiter_sse()
