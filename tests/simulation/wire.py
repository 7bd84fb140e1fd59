"""The clients' side of a connection: HTTP/1.1 and WebSocket, at a pace of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from .pipes import PipeStream


class LostError(Exception):
    """The connection is gone, by whose doing whatever."""


NO_HEADERS: Mapping[str, str] = {}
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionRefusedError)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a client reads: `most` bytes at once, `wait_s` between reads.

    After `cut_at` bytes it resets the connection; after `stop_at` it reads nothing for `stop_s`.
    """

    most: int = 65536
    wait_s: float = 0
    cut_at: float = inf
    stop_at: float = inf
    stop_s: float = 0


class Wire:
    """Bytes at a pace."""

    def __init__(self, stream: PipeStream, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace
        self._got = 0
        self._stopped = False

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except BROKEN:
            raise LostError from None

    async def read(self) -> bytes:
        """Some bytes; none at the end. Raises `LostError`."""
        pace = self._pace
        if self._got >= pace.stop_at and not self._stopped:
            self._stopped = True
            await trio.sleep(pace.stop_s)
        if self._got >= pace.cut_at:
            self.reset()
            raise LostError
        if pace.wait_s:
            await trio.sleep(pace.wait_s)
        try:
            data = await self._stream.receive_some(int(min(pace.most, pace.cut_at - self._got)))
        except BROKEN:
            raise LostError from None
        self._got += len(data)
        return data

    def reset(self) -> None:
        self._stream.reset()


class Exchange:
    """One request and its answer. `status` is 0 until that begins."""

    def __init__(self, stream: PipeStream, pace: Pace) -> None:
        self.wire = Wire(stream, pace)
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._http = h11.Connection(h11.CLIENT)

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        told = [("host", "sim"), ("content-length", str(len(body))), *headers.items()]
        events = [h11.Request(method=method, target=path, headers=told), h11.EndOfMessage()]
        if body:
            events.insert(1, h11.Data(body))
        await self.wire.send(b"".join(self._http.send(event) or b"" for event in events))

    async def next(self) -> bytes | None:
        """The next piece of the body, None at its end. Raises `LostError`."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                raise LostError from None
            if event is h11.NEED_DATA:
                self._http.receive_data(await self.wire.read())
            elif isinstance(event, h11.Response):
                self.status, self.headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return None
            elif isinstance(event, h11.ConnectionClosed):
                raise LostError

    async def json(self) -> Any:  # noqa: ANN401  # whatever the server said
        body = b""
        while (piece := await self.next()) is not None:
            body += piece
        return json.loads(body) if body else None

    async def event(self, buffer: bytearray) -> bytes | None:
        """The next server-sent event without heartbeats, None at the end. Raises `LostError`."""
        while b"\n\n" not in buffer:
            piece = await self.next()
            if piece is None:
                return None
            buffer += piece
        end = buffer.index(b"\n\n")
        event = bytes(buffer[:end]).replace(b": keep-alive\n", b"")
        del buffer[: end + 2]
        return event


class Socket:
    """A WebSocket. `code` is what it was closed with."""

    def __init__(self, stream: PipeStream, pace: Pace) -> None:
        self.wire = Wire(stream, pace)
        self.code: int | None = None
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._text = ""

    async def open(self) -> None:
        await self.wire.send(self._ws.send(Request(host="sim", target="/v1/ws")))
        await self._event(AcceptConnection)

    async def tell(self, kind: str, **fields: object) -> None:
        await self.say(json.dumps({"type": kind, **fields}))

    async def say(self, text: str) -> None:
        try:
            await self.wire.send(self._ws.send(TextMessage(data=text)))
        except LocalProtocolError:
            raise LostError from None

    async def hear(self) -> dict[str, Any]:
        """The next message. Raises `LostError` at the end."""
        while True:
            event = await self._event(TextMessage)
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                told: dict[str, Any] = json.loads(text)
                return told

    async def _event(self, kind: Any) -> Any:  # noqa: ANN401  # wsproto's events
        while True:
            for event in self._ws.events():
                if isinstance(event, kind):
                    return event
                if isinstance(event, Ping):
                    await self.wire.send(self._ws.send(event.response()))
                if isinstance(event, CloseConnection | RejectConnection):
                    self.code = getattr(event, "code", None)
                    raise LostError
            data = await self.wire.read()
            try:
                self._ws.receive_data(data or None)
            except RemoteProtocolError:
                raise LostError from None
