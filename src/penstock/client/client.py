"""One server, seen from a Trio program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx
import trio

from penstock.client.asking import ask, farewell
from penstock.client.errors import ConnectionLostError, ServerError
from penstock.client.stream import TokenStream

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
        With a `window`, no more than so many events are made that were not taken.
        """
        job_id = await self.submit(prompt, **fields)
        async with TokenStream(self._http, job_id, window=fields.get("window")) as tokens:
            yield tokens

    async def submit(self, prompt: str | None = None, **fields: Any) -> str:  # noqa: ANN401
        """Start a job that goes on without readers, and give its id. Raises `ServerError`.

        An Idempotency-Key makes it one job, however often a connection is cut. Where this is
        cancelled before the id is known, so is the job.
        """
        body = fields if prompt is None else {"prompt": prompt, **fields}
        headers = {"Idempotency-Key": uuid4().hex}
        try:
            return await self._submit(body, headers)
        except (trio.Cancelled, KeyboardInterrupt):
            with farewell(), suppress(ServerError, ConnectionLostError):
                await self.cancel(await self._submit(body, headers))
            raise

    def follow(self, job_id: str, *, after: int = 0, window: int | None = None) -> TokenStream:
        """Read a job behind event `after`; leaving does not cancel it.

        A job with a `window` stands still unless one of its readers is told of it.
        """
        return TokenStream(self._http, job_id, after=after, owned=False, window=window)

    async def job(self, job_id: str) -> dict[str, Any]:
        """What the server knows of a job. Raises `ServerError`."""
        return await ask(self._http, "GET", f"/v1/jobs/{job_id}")

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job; harmless where it has ended. Raises `ServerError`."""
        return await ask(self._http, "POST", f"/v1/jobs/{job_id}/cancel")

    async def models(self) -> list[dict[str, Any]]:
        """What is served, as GET /v1/models tells it. Raises `ServerError`."""
        told: list[dict[str, Any]] = (await ask(self._http, "GET", "/v1/models"))["data"]
        return told

    async def acknowledge(self, job_id: str, event_id: int) -> None:
        """Let a job with a `window` go on: events up to `event_id` have arrived."""
        await ask(self._http, "POST", f"/v1/jobs/{job_id}/ack", json={"id": event_id})

    async def _submit(self, body: dict[str, Any], headers: dict[str, str]) -> str:
        told = await ask(self._http, "POST", "/v1/jobs", json=body, headers=headers)
        job_id: str = told["job_id"]
        return job_id
