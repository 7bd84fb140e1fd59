"""The tokens of one job, over as many connections as that takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx
import trio
from httpx_sse import EventSource, ServerSentEvent

from penstock.client.asking import FIRST_PAUSE_S, TRIES, ask, farewell
from penstock.client.errors import ConnectionLostError, ServerError, error_of, refusal_of
from penstock.errors import CANCELLED, UNREAD


class TokenStream:
    """Pieces of text, each once and in order. A class, so that no scope is around a `yield`.

    `finish_reason` and `usage` are set once the iteration has ended. Iterating raises
    `ServerError` where the job failed, `ConnectionLostError` after `TRIES` connections in a row
    that brought nothing. Leaving its block early cancels the job, unless it was only followed.
    Where the job has a `window`, a token counts as read once the next one is asked for.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        job_id: str,
        *,
        after: int = 0,
        owned: bool = True,
        window: int | None = None,
    ) -> None:
        self.job_id = job_id
        self.last_id = after
        self.finish_reason: str | None = None
        self.usage: dict[str, int] | None = None
        self.reconnects = 0
        self._http = http
        self._owned = owned
        self._window = window
        self._acknowledged = 0
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
        with farewell():
            await self._disconnect()
            if self._owned and not self._ended:
                with suppress(ServerError, ConnectionLostError):
                    await ask(self._http, "POST", f"/v1/jobs/{self.job_id}/cancel")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._ended:
            raise StopAsyncIteration
        await self._acknowledge()
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

    async def _acknowledge(self) -> None:
        """Half a window at a time: one request for several tokens, and the model need not wait."""
        if self._window is None or self.last_id - self._acknowledged < max(self._window // 2, 1):
            return
        body = {"id": self.last_id}
        await ask(self._http, "POST", f"/v1/jobs/{self.job_id}/ack", json=body)
        self._acknowledged = self.last_id

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
