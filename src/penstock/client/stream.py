"""The tokens of one job, over as many connections as that takes."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx
import trio

from penstock.client.asking import FIRST_PAUSE_S, TRIES, ask, farewell
from penstock.client.errors import ConnectionLostError, ServerError, error_of
from penstock.client.source import LostError, Source, Told
from penstock.errors import CANCELLED, UNREAD


class TokenStream:
    """Pieces of text, each once and in order. A class, so that no scope is around a `yield`.

    `finish_reason` and `usage` are set once the iteration has ended. Iterating raises
    `ServerError` where the job failed, `ConnectionLostError` after `TRIES` connections in a row
    that brought nothing. Leaving its block early cancels the job, unless it was only followed.
    Where the job has a window, a token counts as read once the next one is asked for.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        job_id: str,
        source: Source,
        *,
        after: int = 0,
        owned: bool = True,
    ) -> None:
        self.job_id = job_id
        self.last_id = after
        self.finish_reason: str | None = None
        self.usage: dict[str, int] | None = None
        self.reconnects = 0
        self._http = http
        self._source = source
        self._owned = owned
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with farewell():
            await self._source.close()
            if self._owned and not self._ended:
                with suppress(ServerError, ConnectionLostError):
                    await ask(self._http, "POST", f"/v1/jobs/{self.job_id}/cancel")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._ended:
            raise StopAsyncIteration
        told = await self._take()
        self.last_id = told.number
        if told.name == "token":
            text: str = told.fields["text"]
            return text
        self._end(told.name, told.fields)
        await self._source.close()
        raise StopAsyncIteration

    def _end(self, name: str, told: dict[str, Any]) -> None:
        self._ended = True
        if name == "error":
            raise error_of(told["error"])
        if name == "cancelled":
            kind = UNREAD if told.get("reason") == UNREAD.reason else CANCELLED
            raise error_of({"code": kind.code, "message": f"the job was cancelled: {kind.reason}"})
        self.finish_reason, self.usage = told["finish_reason"], told["usage"]

    async def _take(self) -> Told:
        for attempt in range(TRIES):
            try:
                return await self._source.take(self.last_id)
            except LostError:
                await self._source.close()
                self.reconnects += 1
                await trio.sleep(FIRST_PAUSE_S * 2**attempt if attempt else 0)
        raise ConnectionLostError(f"{TRIES} connections in a row were lost; is the server there?")
