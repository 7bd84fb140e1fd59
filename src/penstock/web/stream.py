"""Sinks on HTTP: where a pipeline's bytes go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from penstock.events import Delta, Ended, Event, Failed, Finished
from penstock.protocols import sse
from penstock.web.exchange import JSON, Exchange, Headers

BeforeEnd: TypeAlias = Callable[[Finished], Awaitable[None]]


async def nothing(_: Finished) -> None:
    """The end of most answers is told at once."""


class StreamSink:
    """Server-sent events. Headers go out with the first bytes; an error before them is a status.

    `before_end` is awaited before a normal end is told.
    """

    def __init__(self, exchange: Exchange, before_end: BeforeEnd = nothing) -> None:
        self._exchange = exchange
        self._before_end = before_end

    async def open(self) -> None:
        """Headers wait for the first bytes."""

    async def permit(self, event: Event | None) -> bool:
        """HTTP has no say but its windows."""
        return True

    def write_nowait(self, data: bytes, event: Delta | Ended) -> bool:
        return self._exchange.write_nowait(data)

    async def write(self, data: bytes, event: Event | None) -> None:
        if not self._exchange.responding:
            if isinstance(event, Failed):
                await self._exchange.respond_error(event.error)
                return
            await self._exchange.start(200, sse.HEADERS)
        if isinstance(event, Finished):
            await self._before_end(event)
        await self._exchange.write(data, last=isinstance(event, Finished | Failed))

    def release(self) -> None:
        """Nothing is held back here."""


class WholeSink:
    """One JSON object. The only bytes that arrive are those of the terminal event.

    `before_end` is awaited before it is told, and `headers` gives further ones, for an answer that
    ended well.
    """

    def __init__(
        self,
        exchange: Exchange,
        before_end: BeforeEnd = nothing,
        *,
        headers: Callable[[Finished], Headers] = lambda finished: (),
    ) -> None:
        self._exchange = exchange
        self._before_end = before_end
        self._headers = headers

    async def open(self) -> None:
        """Headers wait for the first bytes."""

    async def permit(self, event: Event | None) -> bool:
        """HTTP has no say but its windows."""
        return True

    async def write(self, data: bytes, event: Event | None) -> None:
        if isinstance(event, Failed):
            await self._exchange.respond_error(event.error)
        elif isinstance(event, Finished):
            await self._before_end(event)
            await self._exchange.respond(200, [*JSON, *self._headers(event)], data)

    def release(self) -> None:
        """Nothing is held back here."""
