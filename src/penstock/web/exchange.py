"""One HTTP request and its response, in plain ASGI.

Routes that generate use this instead of a framework's request and response: per idle stream that
costs 33 KiB where Quart's costs 42, and nothing between the pipeline and the socket buffers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeAlias

import trio

from penstock import origin
from penstock.errors import (
    METHOD_NOT_ALLOWED,
    TIMED_OUT,
    TOO_LARGE,
    PenstockError,
    internal,
    invalid,
)
from penstock.events import Terminal
from penstock.live import Live
from penstock.protocols import openai
from penstock.requests import Caller
from penstock.service import Service
from penstock.web.door import caller_of

log = logging.getLogger(__name__)

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
TellError: TypeAlias = Callable[[PenstockError], tuple[int, str]]
"""A dialect's status and JSON body for an error."""

End: TypeAlias = Callable[[], Awaitable[Terminal | None]]
"""How what it ends stands afterwards."""

WriteNowait: TypeAlias = Callable[[bytes], bool]
WRITE_NOWAIT = "penstock.write_nowait"
"""Our own extension of ASGI: writes a part of the body without waiting; False where that is not
possible or not all of it went, and then the same bytes are to be sent as a message."""

JSON = ((b"content-type", b"application/json"),)


class GoneError(Exception):
    """The client left before it had sent its request."""


class Exchange:
    """A request of which the body has not been read and a response that has not been started."""

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        tell_error: TellError = openai.tell_error,
        *,
        body_deadline_s: float = math.inf,
    ) -> None:
        self.scope = scope
        self.number = origin.current().request_id
        self.live = Live(self.number)
        self.end: End | None = None
        """Ends what generates the answer; None where nothing does so for this request alone."""
        self.responding = False
        self._receive = receive
        self._send = send
        self._write_nowait: WriteNowait | None = scope.get("extensions", {}).get(WRITE_NOWAIT)
        self._body_deadline_s = body_deadline_s
        self._tell_error = tell_error

    @property
    def caller(self) -> Caller:
        return caller_of(self.scope)

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.scope["headers"] if key.lower() == name), None)

    @property
    def wants_timings(self) -> bool:
        """Whether the client asks to be told how long its answer took."""
        return self.header(b"x-penstock-timings") == b"1"

    async def read_body(self, limit: int) -> bytes:
        """The whole body, in time. Raises `PenstockError`; `GoneError` if it is cut off."""
        coding = (self.header(b"content-encoding") or b"identity").decode("latin-1")
        if coding.lower() != "identity":
            raise invalid("content-encoding", f"{coding!r} is not taken; send the body as it is")
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        with trio.move_on_after(self._body_deadline_s):
            return await self._collect(limit)
        raise PenstockError(TIMED_OUT, "the body took too long to arrive; send it faster")

    async def _collect(self, limit: int) -> bytes:
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            body += message.get("body", b"")
            if len(body) > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return bytes(body)

    async def wait_disconnect(self) -> None:
        """Return when the client has left, or has been given all of its response."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Headers) -> None:
        self.responding = True
        request_id = (b"x-request-id", self.number.encode("ascii"))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, request_id]}
        )

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    def write_nowait(self, data: bytes) -> bool:
        """Whether all of `data` is out. If not, `write` it next."""
        return self._write_nowait is not None and self.responding and self._write_nowait(data)

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        length = str(len(body)).encode("ascii")
        # RFC 9110 8.6 allows none with a 204.
        told = [] if status == 204 else [(b"content-length", length)]
        await self.start(status, [*headers, *told])
        await self.write(body, last=True)

    async def respond_error(self, error: PenstockError, *, headers: Headers = ()) -> None:
        """The error as a status and a JSON body."""
        status, body = self._tell_error(error)
        await self.respond(status, [*JSON, *headers, *error_headers(error)], body.encode("ascii"))


def error_headers(error: PenstockError) -> Iterator[tuple[bytes, bytes]]:
    """What goes beside the body of an error, in every dialect."""
    if error.retry_after_s is not None:
        yield b"retry-after", str(error.retry_after_s).encode("ascii")
    if error.kind.status == 429 and not error.kind.retryable:
        yield b"x-should-retry", b"false"  # openai-python repeats every other 429
    if error.kind.status == 401:
        yield b"www-authenticate", b"Bearer"


Handler: TypeAlias = Callable[[Service, Exchange], Awaitable[None]]


async def handle(service: Service, exchange: Exchange, method: str, handler: Handler) -> None:
    """Run `handler` until it returns or the client leaves; every error becomes a response.

    Error handling: a failure after the response has begun is logged, and the response is left
    without an end, which closes the connection.
    """
    try:
        if exchange.scope["method"] != method:
            error = PenstockError(METHOD_NOT_ALLOWED, f"this path takes {method} only")
            service.refused(error)
            await exchange.respond_error(error, headers=[(b"allow", method.encode("ascii"))])
            return
        await handler(service, exchange)
    except GoneError:
        log.info("a client left before it had sent its request")
    except PenstockError as error:
        service.refused(error)
        await exchange.respond_error(error)
    except Exception:
        log.exception("a request failed")
        if not exchange.responding:
            await exchange.respond_error(internal())


async def while_connected(exchange: Exchange, work: Callable[[], Awaitable[object]]) -> None:
    """Run `work`, and cancel it if the client leaves. A `PenstockError` from it passes through."""
    refusal: PenstockError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_disconnect, exchange, nursery.cancel_scope)
        try:
            await work()
        except PenstockError as error:
            refusal = error
        nursery.cancel_scope.cancel()
    if refusal is not None:
        raise refusal


async def _cancel_on_disconnect(exchange: Exchange, scope: trio.CancelScope) -> None:
    await exchange.wait_disconnect()
    scope.cancel()


def _too_large(limit: int) -> PenstockError:
    return PenstockError(TOO_LARGE, f"the body is larger than {limit} bytes; send less")
