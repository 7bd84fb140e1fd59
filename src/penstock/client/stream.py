"""The tokens of one job, over as many connections as that takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx
import trio
from httpx_sse import EventSource, ServerSentEvent

from penstock.client.errors import ConnectionLostError, error_of, refusal_of
from penstock.errors import CANCELLED, UNREAD

TRIES = 8
"""Connections in a row that may bring nothing."""
FIRST_PAUSE_S = 0.05
GOODBYE_S = 5.0


class TokenStream:
    """Pieces of text, each once and in order. A class, so that no scope is around a `yield`.

    `finish_reason` and `usage` are set once the iteration has ended. Iterating raises
    `ServerError` where the job failed, `ConnectionLostError` after `TRIES` connections in a row
    that brought nothing. Leaving its block early cancels the job, unless it was only followed.
    """

    def __init__(
        self, http: httpx.AsyncClient, job_id: str, *, after: int = 0, owned: bool = True
    ) -> None:
        self.job_id = job_id
        self.last_id = after
        self.finish_reason: str | None = None
        self.usage: dict[str, int] | None = None
        self.reconnects = 0
        self._http = http
        self._owned = owned
        self._ended = False
        self._response: httpx.Response | None = None
        self._events: AsyncIterator[ServerSentEvent] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with trio.CancelScope(deadline=trio.current_time() + GOODBYE_S, shield=True):
            await self._disconnect()
            if self._owned and not self._ended:
                await cancel_job(self._http, self.job_id)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._ended:
            raise StopAsyncIteration
        event = await self._next_event()
        self.last_id = int(event.id)
        told = event.json()
        if event.event == "token":
            text: str = told["text"]
            return text
        self._end(event.event, told)
        await self._disconnect()
        raise StopAsyncIteration

    def _end(self, name: str, told: dict[str, Any]) -> None:
        self._ended = True
        if name == "job_error":
            raise error_of(told["error"])
        if name == "job_cancelled":
            kind = UNREAD if told["reason"] == UNREAD.reason else CANCELLED
            raise error_of({"code": kind.code, "message": f"the job was cancelled: {kind.reason}"})
        self.finish_reason, self.usage = told["finish_reason"], told["usage"]

    async def _next_event(self) -> ServerSentEvent:
        for attempt in range(TRIES):
            try:
                if self._events is None:
                    await self._connect()
                assert self._events is not None
                return await anext(self._events)
            except (httpx.TransportError, StopAsyncIteration):
                await self._disconnect()
                self.reconnects += 1
                await trio.sleep(FIRST_PAUSE_S * 2**attempt if attempt else 0)
        raise ConnectionLostError(f"{TRIES} connections in a row were lost; is the server there?")

    async def _connect(self) -> None:
        query, headers = {"job_id": self.job_id}, {"Last-Event-ID": str(self.last_id)}
        request = self._http.build_request("GET", "/v1/stream", params=query, headers=headers)
        self._response = await self._http.send(request, stream=True)
        if self._response.status_code != 200:
            await self._response.aread()
            raise refusal_of(self._response)
        self._events = EventSource(self._response).aiter_sse()

    async def _disconnect(self) -> None:
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


async def cancel_job(http: httpx.AsyncClient, job_id: str) -> None:
    """Tell the server that nobody wants the job, for as often as it takes within `TRIES`."""
    for attempt in range(TRIES):
        try:
            await http.post(f"/v1/jobs/{job_id}/cancel")
        except httpx.TransportError:
            await trio.sleep(FIRST_PAUSE_S * 2**attempt)
        else:
            return
