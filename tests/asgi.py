"""An ASGI server in memory: one request at a time, a client that can stop reading or leave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from penstock.web.app import App


class MemoryClient:
    """One HTTP exchange with an application.

    `reads` bounds how many body messages are accepted before `send` blocks, as a server's does
    when its socket is full.
    """

    def __init__(
        self,
        app: App,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes = b"",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        reads: float = float("inf"),
    ) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.ended = False
        self._app = app
        self._scope = {
            "type": "http",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"test"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "extensions": {},
            "state": {},
        }
        self._request: list[dict[str, Any]] = [
            {"type": "http.request", "body": body, "more_body": False}
        ]
        self._reads = reads
        self._left = trio.Event()
        self._allowed = trio.Event()

    async def run(self) -> None:
        """The exchange, until the application returns."""
        await self._app(self._scope, self._receive, self._send)

    def leave(self) -> None:
        self._left.set()

    def read(self, messages: float) -> None:
        self._reads += messages
        self._allowed.set()

    @property
    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The text of a completion stream so far."""
        chunks = [line[6:] for line in self.body.decode().splitlines() if line[:7] == "data: {"]
        choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
        return "".join(
            choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices
        )

    def text_of(self) -> str:
        """The text of a whole completion."""
        return str(self.json["choices"][0]["text"])

    async def _receive(self) -> dict[str, Any]:
        if self._request:
            return self._request.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            assert self.status == 0, "two responses"
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        while self._reads <= 0:
            self._allowed = trio.Event()
            await self._allowed.wait()
        self._reads -= 1
        assert not self.ended, "something after the end"
        self.body += message.get("body", b"")
        if not message.get("more_body"):
            self.ended = True
            self._left.set()


def post(
    app: App, path: str, asked: Mapping[str, object], *, reads: float = float("inf")
) -> MemoryClient:
    """A POST of `asked` as JSON."""
    return MemoryClient(app, "POST", path, body=json.dumps(asked).encode(), reads=reads)


async def fetch(client: MemoryClient) -> MemoryClient:
    """Run the whole exchange."""
    with trio.fail_after(30):
        await client.run()
    assert client.ended
    return client


@asynccontextmanager
async def running(app: App) -> AsyncIterator[App]:
    """The application's service, decoding."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.service.run)
        yield app
        nursery.cancel_scope.cancel()
