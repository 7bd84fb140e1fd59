"""Text messages over a WebSocket, without a task of its own.

Pings are answered while a message is waited for. trio-websocket would need a nursery around the
caller's block, which a class cannot be if it is entered and left in different tasks.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Self

import httpx
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from penstock.client.errors import refusal_of
from penstock.client.source import LostError

SUBPROTOCOL = "penstock.v1"
SILENCE_S = 45.0
"""The server pings every 20 s, so a connection that is silent for this long is dead."""
RECEIVE_BYTES = 65536
BROKEN = (
    OSError,
    ProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)


class WebSocket:
    """One connection. Its methods raise `LostError` once it is broken."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        self._text = ""
        """Of a message that is not complete. Waiting for the rest of it may be cancelled."""

    @classmethod
    async def open(cls, url: httpx.URL, headers: list[tuple[bytes, bytes]]) -> Self:
        """Raises `ServerError` where the handshake is refused, and `LostError`."""
        try:
            with trio.fail_after(SILENCE_S):
                socket = cls(await _connect(url))
        except BROKEN as error:
            raise LostError from error
        try:
            await socket._shake_hands(url, headers)
        except BaseException:
            await socket.close()
            raise
        return socket

    async def send(self, text: str) -> None:
        await self._send(TextMessage(data=text))

    async def receive(self) -> str:
        """The next message."""
        while True:
            match await self._next():
                case TextMessage(data=data, message_finished=finished):
                    self._text += data
                    if finished:
                        text, self._text = self._text, ""
                        return text
                case Ping() as ping:
                    await self._send(ping.response())
                case CloseConnection():
                    raise LostError

    async def close(self) -> None:
        """At once: what is to be said of the job is said elsewhere."""
        await trio.aclose_forcefully(self._stream)

    async def _shake_hands(self, url: httpx.URL, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send(
            Request(
                host=url.netloc.decode("ascii"),
                target=url.raw_path.decode("ascii"),
                subprotocols=[SUBPROTOCOL],
                extra_headers=headers,
            )
        )
        match await self._next():
            case AcceptConnection():
                return
            case RejectConnection(status_code=status, headers=told):
                raise refusal_of(httpx.Response(status, headers=told, content=await self._body()))
        raise LostError

    async def _body(self) -> bytes:
        body = b""
        while True:
            match await self._next():
                case RejectData(data=data, body_finished=finished):
                    body += data
                    if finished:
                        return body
                case _:
                    raise LostError

    async def _next(self) -> Event:
        try:
            while not self._events:
                with trio.fail_after(SILENCE_S):
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    raise LostError
                self._protocol.receive_data(bytes(data))
                self._events.extend(self._protocol.events())
        except BROKEN as error:
            raise LostError from error
        return self._events.popleft()

    async def _send(self, event: Any) -> None:  # noqa: ANN401  # wsproto's base class says less
        try:
            await self._stream.send_all(self._protocol.send(event))
        except BROKEN as error:
            raise LostError from error
        except BaseException:
            # A part of a frame may be out.
            await self.close()
            raise


async def _connect(url: httpx.URL) -> trio.abc.Stream:
    if url.scheme != "https":
        return await trio.open_tcp_stream(url.host, url.port or 80)
    # The authorities that httpx trusts.
    context = httpx.create_ssl_context()
    port = url.port or 443
    return await trio.open_ssl_over_tcp_stream(
        url.host, port, ssl_context=context, https_compatible=True
    )
