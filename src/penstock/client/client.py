"""One server, seen from a Trio program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx
import trio

from penstock.client.errors import ConnectionLostError, refusal_of
from penstock.client.stream import FIRST_PAUSE_S, TRIES, TokenStream

SILENCE_S = 45.0
"""Heartbeats come every 15 s, so a connection that is silent for this long is dead."""


class Client:
    """Holds a pool of connections to `url`; close it by leaving its `async with`."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=SILENCE_S, limits=limits
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def stream(self, prompt: str | None = None, **fields: Any) -> AsyncIterator[TokenStream]:  # noqa: ANN401
        """Tokens of a job that is cancelled when the block is left. Raises `ServerError`.

        `fields` are those of POST /v1/jobs: `messages`, `max_tokens`, `temperature`, `seed`, ….
        """
        job_id = await self.submit(prompt, **fields)
        async with TokenStream(self._http, job_id) as tokens:
            yield tokens

    async def submit(self, prompt: str | None = None, **fields: Any) -> str:  # noqa: ANN401
        """Start a job that goes on without readers, and give its id. Raises `ServerError`.

        An Idempotency-Key makes it one job, however often a connection is cut.
        """
        body = fields if prompt is None else {"prompt": prompt, **fields}
        headers = {"Idempotency-Key": uuid4().hex}
        told = await self._ask("POST", "/v1/jobs", json=body, headers=headers)
        job_id: str = told["job_id"]
        return job_id

    def follow(self, job_id: str, *, after: int = 0) -> TokenStream:
        """Read a job behind event `after`; leaving does not cancel it."""
        return TokenStream(self._http, job_id, after=after, owned=False)

    async def job(self, job_id: str) -> dict[str, Any]:
        """What the server knows of a job. Raises `ServerError`."""
        return await self._ask("GET", f"/v1/jobs/{job_id}")

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job; harmless where it has ended. Raises `ServerError`."""
        return await self._ask("POST", f"/v1/jobs/{job_id}/cancel")

    async def acknowledge(self, job_id: str, event_id: int) -> None:
        """Let a job with a `window` go on: events up to `event_id` have arrived."""
        await self._ask("POST", f"/v1/jobs/{job_id}/ack", json={"id": event_id})

    async def _ask(self, method: str, path: str, **rest: Any) -> dict[str, Any]:  # noqa: ANN401
        """Each of these requests may be repeated without harm."""
        for attempt in range(TRIES):
            try:
                response = await self._http.request(method, path, **rest)
            except httpx.TransportError:
                await trio.sleep(FIRST_PAUSE_S * 2**attempt)
                continue
            if response.status_code >= 400:
                raise refusal_of(response)
            told: dict[str, Any] = response.json()
            return told
        raise ConnectionLostError(f"{TRIES} requests in a row got no answer; is the server there?")
