"""The client for scripts and notebooks: the same calls, without `await`.

Works inside a running Trio or asyncio loop too (and blocks it): Trio runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

from penstock.client import client as trionic
from penstock.client.stream import TokenStream
from penstock.client.trio_thread import TrioThread


class Tokens:
    """Pieces of text, one at a time: nothing is read ahead of the loop that takes them."""

    def __init__(self, thread: TrioThread, stream: TokenStream) -> None:
        self._thread = thread
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        text = self._thread.run(_next, self._stream)
        if text is None:
            raise StopIteration
        return text

    @property
    def job_id(self) -> str:
        return self._stream.job_id

    @property
    def last_id(self) -> int:
        """Number of the last event taken; `follow(job_id, after=…)` goes on behind it."""
        return self._stream.last_id

    @property
    def finish_reason(self) -> str | None:
        """None until the last token was taken."""
        return self._stream.finish_reason

    @property
    def usage(self) -> dict[str, int] | None:
        """None until the last token was taken."""
        return self._stream.usage


class Client:
    """`penstock.client.Client` for programs without a loop; owns a thread until it is closed."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self._thread = TrioThread()
        self._client = self._thread.run(_connected, url, api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread. Harmless when repeated."""
        if not self._thread.ended:
            self._thread.run(self._client.__aexit__, None, None, None)
            self._thread.end()

    def stream(self, prompt: str | None = None, **fields: Any) -> AbstractContextManager[Tokens]:  # noqa: ANN401
        """Tokens of a job that is cancelled when the block is left. Raises `ServerError`.

        With a `window` the server computes no more than so many events ahead of the loop.
        """
        return self._held(self._client.stream(prompt, **fields))

    def follow(
        self, job_id: str, *, after: int = 0, window: int | None = None
    ) -> AbstractContextManager[Tokens]:
        """Read a job behind event `after`; leaving does not cancel it."""
        return self._held(self._client.follow(job_id, after=after, window=window))

    def submit(self, prompt: str | None = None, **fields: Any) -> str:  # noqa: ANN401
        """Start a job that goes on without readers, and give its id. Raises `ServerError`."""
        return self._thread.run(partial(self._client.submit, prompt, **fields))

    def job(self, job_id: str) -> dict[str, Any]:
        """What the server knows of a job. Raises `ServerError`."""
        return self._thread.run(self._client.job, job_id)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job; harmless where it has ended. Raises `ServerError`."""
        return self._thread.run(self._client.cancel, job_id)

    def acknowledge(self, job_id: str, event_id: int) -> None:
        """Let a job with a `window` go on: events up to `event_id` have arrived."""
        self._thread.run(self._client.acknowledge, job_id, event_id)

    def models(self) -> list[dict[str, Any]]:
        """What is served. Raises `ServerError`."""
        return self._thread.run(self._client.models)

    @contextmanager
    def _held(self, stream: AbstractAsyncContextManager[TokenStream]) -> Iterator[Tokens]:
        """Entered and left in different tasks, which a `TokenStream` is made for."""
        tokens = Tokens(self._thread, self._thread.run(stream.__aenter__))
        try:
            yield tokens
        finally:
            self._thread.run(stream.__aexit__, None, None, None)


async def _connected(url: str, api_key: str | None) -> trionic.Client:
    return trionic.Client(url, api_key=api_key)


async def _next(stream: TokenStream) -> str | None:
    return await anext(stream, None)
