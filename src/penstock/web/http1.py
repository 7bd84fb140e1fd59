"""HTTP/1.1 and the way into a WebSocket: Hypercorn's, with what it lacks.

Each override names the defect of Hypercorn 0.18.0 that it cures.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, cast

import h11
import trio
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import EventWrapper
from hypercorn.typing import AppWrapper
from hypercorn.utils import suppress_body

from penstock.web.exchange import WRITE_NOWAIT
from penstock.web.frames import Frames

READ_AHEAD_BYTES = 1 << 16
PASSES = 4
"""Of the scheduler, in which what has come of a body is parsed: a refusal does not wait for it."""


class RefusedError(Exception):
    """The peer speaks something that is not served; it has been told."""


class PeerGoneError(OSError):
    """The peer closed the connection while a response was being made."""


class NextRequest(EventWrapper):
    """Set when the next request may be parsed. `meanwhile` runs in every wait for that."""

    def __init__(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    async def wait(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._meanwhile)
            await super().wait()
            nursery.cancel_scope.cancel()


class Http1(H11Protocol):
    """HTTP/1.1 and WebSocket only. `receive` gives the next bytes, none at the end."""

    def __init__(
        self,
        *upstream: Any,  # noqa: ANN401  # nine positionals, handed on as they are
        receive: Callable[[], Awaitable[bytes]],
        write_nowait: Callable[[bytes], bool],
    ) -> None:
        super().__init__(*upstream)
        self._receive = receive
        self._write_nowait = write_nowait
        self._serve, self.app = self.app, cast("AppWrapper", self._extended)
        self._chunked = False
        self.can_read = NextRequest(self._read_ahead)
        self._broken = False

    @property
    def has_begun(self) -> bool:
        """A part of a request has come, and no request is being answered."""
        return self.stream is None and bool(self.connection.trailing_data[0])

    @property
    def is_pinged(self) -> bool:
        """The peer answers pings, so one that is silent is gone."""
        return isinstance(self.stream, Frames)

    async def expire(self) -> None:
        """The request's head took too long, or none came."""
        if self.has_begun:
            await self._send_error_response(408)

    async def handle(self, event: Event) -> None:
        with suppress(RefusedError):
            await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """Upstream answers 500 to a request that is cancelled, as by the end of a server.

        That is no answer to it. And where its headers were being written, they are out, as far as
        h11 knows, and it raises.
        """
        if isinstance(event, Response):
            cancelled = trio.current_effective_deadline() == -inf
            self._broken |= cancelled or self.connection.our_state is h11.SEND_BODY
            self._chunked = self._chunks(event)
            event = await self._close_behind(event)
        if not self._broken or isinstance(event, StreamClosed):
            await super().stream_send(event)

    async def _close_behind(self, head: Response) -> Response:
        """Say so where not all of a request has come and no more of it is read.

        Upstream closes without a word, and a client's next request gets no answer.
        """
        for _ in range(PASSES):
            if self.connection.their_state is h11.SEND_BODY:
                await trio.lowlevel.checkpoint()
        if self.connection.their_state is h11.DONE or head.status_code < 200:
            return head
        return replace(head, headers=[*head.headers, (b"connection", b"close")])

    def _chunks(self, head: Response) -> bool:
        return (
            isinstance(self.stream, HTTPStream)
            and self.stream.scope["http_version"] == "1.1"
            and not suppress_body(self.stream.scope["method"], head.status_code)
            and all(name.lower() != b"content-length" for name, _ in head.headers)
        )

    async def _extended(
        self,
        scope: Any,  # noqa: ANN401  # upstream's, which know nothing of ours
        *rest: Any,  # noqa: ANN401
    ) -> None:
        if scope["type"] == "http":
            scope["extensions"][WRITE_NOWAIT] = self._write_chunk
        await self._serve(scope, *rest)

    def _write_chunk(self, data: bytes) -> bool:
        """Upstream spends 15 us on each part of a body: eight calls, three objects, two states.

        For h11 one chunk more or less changes nothing, and its frame is the same as this.
        """
        if not self._chunked or self.connection.our_state is not h11.SEND_BODY or not data:
            return False
        return self._write_nowait(b"%x\r\n%b\r\n" % (len(data), data))

    async def _read_ahead(self) -> None:
        """Upstream stops reading behind a request that asks for an upgrade or that another follows.

        So it never learns that the peer has left. Beyond the limit neither does this.
        """
        while len(self.connection.trailing_data[0]) < READ_AHEAD_BYTES:
            data = await self._receive()
            if not data:
                raise PeerGoneError
            self.connection.receive_data(data)

    async def _check_protocol(self, event: h11.Request) -> None:
        """`Upgrade: h2c` is ignored, as RFC 9113 wants; HTTP/2 needs its whole preface.

        Upstream serves a request with two lengths, of which a proxy before it may believe the other
        one: what follows would be a request that the proxy has not seen.
        """
        if event.http_version not in (b"1.0", b"1.1"):
            await self._refuse(505)
        names = {name for name, _ in event.headers}
        if b"transfer-encoding" in names and (
            b"content-length" in names or event.http_version == b"1.0"
        ):
            await self._refuse(400)

    async def _refuse(self, status: int) -> None:
        await self._send_error_response(status)
        await self.send(Closed())
        raise RefusedError

    async def _create_stream(self, request: h11.Request) -> None:
        """Upstream's own WebSocket has defects of its own: see `Frames`."""
        if not _wants_websocket(request):
            await super()._create_stream(request)
            return
        self.stream = Frames(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        self.connection = H11WSConnection(cast("h11.Connection", self.connection))
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode("ascii"),
                method="GET",
                raw_path=request.target,
                state=self.connection_state,
            )
        )


def _wants_websocket(request: h11.Request) -> bool:
    told = {name: value.lower() for name, value in request.headers}
    tokens = [token.strip() for token in told.get(b"connection", b"").split(b",")]
    return (
        request.method == b"GET"
        and b"upgrade" in tokens
        and told.get(b"upgrade", b"").strip() == b"websocket"
    )
