"""One HTTP/2 stream: a request and its response, as an ASGI application sees them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import unquote

import trio
from hypercorn.utils import filter_pseudo_headers, suppress_body

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]


class MalformedError(ValueError):
    """A request that HTTP/2 framed well and that makes no sense."""


class Sender(Protocol):
    """What a stream asks of its connection."""

    def acknowledge(self, stream: Stream, count: int) -> None:
        """The application has taken `count` bytes of the request's body."""

    def send_headers(self, stream: Stream, headers: Headers, *, last: bool) -> None: ...

    def send_continue(self, stream: Stream) -> None: ...

    async def send_data(self, stream: Stream, data: bytes, *, last: bool) -> None:
        """Return when the kernel has it all; blocks while a window is shut."""


class Stream:
    """The connection's reader fills one half; the request's task uses both.

    Nothing is held for a reader: `send` returns when the bytes are in the kernel. What is held of a
    request's body is bounded by the window that we announce.
    """

    def __init__(self, number: int, scope: dict[str, Any], sender: Sender) -> None:
        self.number = number
        self.task = trio.CancelScope()
        """Cancelled when the client resets the stream."""
        self.begun = False
        """The application has seen it."""
        self.reset = False
        self.complete = False
        """The whole response has been framed."""
        self.received = False
        """The whole request has arrived."""
        self.held = 0
        """Bytes of the body that the application has not taken."""
        self.outstanding = 0
        """Bytes sent that the client's window updates have not covered."""
        self._scope = scope
        self._sender = sender
        self._body = bytearray()
        self._told = False
        self._news = trio.Event()
        self._opened = trio.Event()
        self._head: Headers | None = None
        self._started = False
        self._expects = (b"expect", b"100-continue") in scope["headers"]

    async def run(self, app: Callable[..., Awaitable[object]]) -> None:
        """Answer the request. A failure is logged and reaches nobody else."""
        if self.reset:
            return
        self.begun = True
        with self.task:
            try:
                await app(self._scope, self.receive, self.send, None, None)
            except Exception:
                log.exception("a request failed")

    def feed(self, data: bytes) -> None:
        self._body += data
        self.held += len(data)
        self._news.set()

    def end_body(self) -> None:
        self.received = True
        self._news.set()

    def abandon(self) -> None:
        """The client wants nothing of this any more."""
        self.reset = True
        self.task.cancel()

    def wake(self) -> None:
        """A window may have opened."""
        self._opened.set()

    async def wait_window(self) -> None:
        self._opened = trio.Event()
        await self._opened.wait()

    async def receive(self) -> dict[str, Any]:
        if self._told:
            while not self.complete:
                await self._wait_news()
            return {"type": "http.disconnect"}
        if self._expects and not self._started:
            self._expects = False
            self._sender.send_continue(self)
        while not self._body and not self.received:
            await self._wait_news()
        return self._take()

    def _take(self) -> dict[str, Any]:
        body, self._body = bytes(self._body), bytearray()
        self.held -= len(body)
        self._told = self.received
        if body:
            self._sender.acknowledge(self, len(body))
        return {"type": "http.request", "body": body, "more_body": not self._told}

    async def _wait_news(self) -> None:
        self._news = trio.Event()
        await self._news.wait()

    async def send(self, message: dict[str, Any]) -> None:
        if self.reset or self.complete:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body":
            more = message.get("more_body", False)
            await self._write(message.get("body", b""), last=not more)

    def _start(self, status: int, headers: Headers) -> None:
        """Headers go out with the first bytes of the body, in one packet."""
        self._head = [(b":status", b"%d" % status), *headers]
        self._bodiless = suppress_body(self._scope["method"], status)

    async def _write(self, data: bytes, *, last: bool) -> None:
        if self._bodiless:
            data = b""
        if not self._started and self._head is not None:
            self._started = True
            self.complete = last and not data
            self._sender.send_headers(self, self._head, last=self.complete)
        if data or (last and not self.complete):
            await self._sender.send_data(self, data, last=last)
        if self.complete:
            self._news.set()

    @property
    def started(self) -> bool:
        return self._started


def make_scope(headers: Headers, connection: dict[str, Any]) -> dict[str, Any]:
    """The ASGI scope. Raises `MalformedError`.

    Hypercorn 0.18.0 decodes `:path` and `:method` as ASCII where an error ends the process.
    """
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    path, _, query = pseudo.get(b":path", b"").partition(b"?")
    try:
        method, told = pseudo[b":method"].decode("ascii"), path.decode("ascii")
    except (UnicodeDecodeError, KeyError):
        raise MalformedError from None
    if method == "CONNECT" or not path.startswith((b"/", b"*")):
        raise MalformedError
    return {
        **connection,
        "type": "http",
        "http_version": "2",
        "asgi": {"spec_version": "2.3", "version": "3.0"},
        "method": method,
        "path": unquote(told),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": filter_pseudo_headers(headers),
        "extensions": {},
    }
