"""HTTP/2 on one connection: h2 says what frames mean, this says who waits for whom.

Hypercorn 0.18.0 frees the writer of a stream whose window is shut and then buffers without end,
takes streams as fast as they are reset, and waits for one stream's body before it reads for others.
Here a response is written by its own request's task, which waits while a window is shut.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import h2.events as e
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, StreamClosedError
from h2.settings import SettingCodes, Settings
from hypercorn.events import Event, RawData

from penstock.web.budget import Budget
from penstock.web.http2_output import Output, Wire
from penstock.web.http2_sending import WINDOW_BYTES, Sending
from penstock.web.http2_stream import Headers, MalformedError, Stream, make_scope

HEADER_LIST_BYTES = 1 << 16
UNSENT_LIMIT_BYTES = 1 << 16
"""Answers to a peer that does not read them; beyond this it is not listened to either."""
RESETS, RESETS_PER_S = 200, 20
"""What a client may take back: a code editor does so at each keystroke (CVE-2023-44487)."""
CHATTER, CHATTER_PER_S = 1000, 50
"""Frames that ask for work and carry nothing: SETTINGS, PING, PRIORITY, WINDOW_UPDATE, no data."""
FLAW_GRACE_S = 1.0

_CHATTER = (
    e.RemoteSettingsChanged,
    e.PingReceived,
    e.PriorityUpdated,
    e.WindowUpdated,
    e.UnknownFrameReceived,
)


class FloodError(Exception):
    """The peer asks for more work than it has a reason to."""


class _Peer(H2Connection):
    """h2 remembers 65,536 closed streams, for each connection."""

    MAX_CLOSED_STREAMS = 1024


class _Settings(Settings):
    @property
    def max_concurrent_streams(self) -> int:
        """What h2 enforces. It ends the connection over one stream too many; we refuse that one."""
        return 1 << 31

    @max_concurrent_streams.setter
    def max_concurrent_streams(self, value: int) -> None:
        self[SettingCodes.MAX_CONCURRENT_STREAMS] = value


class Http2:
    """One connection. `scope` is what is the same in every request's ASGI scope."""

    has_begun = False
    """What is half there waits in h2, within its limits."""
    is_pinged = True

    def __init__(
        self,
        app: Callable[..., Awaitable[object]],
        wire: Wire,
        scope: dict[str, Any],
        *,
        spawn: Callable[..., None],
        max_streams: int,
        stall_deadline_s: float,
        date: Callable[[], Headers],
    ) -> None:
        self._app = app
        self._wire = wire
        self._scope = scope
        self._spawn = spawn
        self._max_streams = max_streams
        self._date = date
        self._h2 = _Peer(H2Configuration(client_side=False, header_encoding=None))
        self._h2.local_settings = _Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES,
            },
        )
        # A stream that stalls hits its own deadline first, and is counted as what it is.
        self._output = Output(wire, patience_s=stall_deadline_s + FLAW_GRACE_S)
        self._newest = 0
        self._leaving = False
        now = trio.current_time()
        self._resets = Budget(RESETS, RESETS_PER_S, now=now)
        self._chatter = Budget(CHATTER, CHATTER_PER_S, now=now)
        self._sending = Sending(self._h2, self._output, self._chatter, date)
        self._streams = self._sending.streams

    def __repr__(self) -> str:
        return f"<Http2 streams={len(self._streams)} unsent={self._output.size}>"

    def start(self) -> None:
        """Send our settings. The windows add up: a body that is not taken holds up no other."""
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES * (self._max_streams - 1))
        self._sending.flush()
        self._spawn(self._output.run)

    async def handle(self, event: Event) -> None:
        """Act on bytes from the peer. Waits for a peer that does not read its answers."""
        if not isinstance(event, RawData):
            return
        try:
            for each in self._h2.receive_data(event.data):
                # By now its stream may be gone: h2 has taken in everything that came with it.
                with suppress(StreamClosedError):
                    self._handle(each)
        except H2Error:
            await self._end()
            return
        except FloodError:
            await self._end(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        self._sending.flush()
        if self._output.size > UNSENT_LIMIT_BYTES:
            await self._output.flushed()

    async def expire(self) -> None:
        """No request came for too long."""
        await self._end(ErrorCodes.NO_ERROR)

    def ping(self) -> None:
        with suppress(H2Error):
            self._h2.ping(b"penstock")
        self._sending.flush()

    async def leave(self) -> None:
        """Take no more streams; the connection ends with the last one."""
        if not self._leaving:
            self._leaving = True
            # Not h2's: it lets nothing be sent behind a GOAWAY, not even what streams finish with.
            self._output.push(struct.pack(">BHBBIII", 0, 8, 7, 0, 0, self._newest, 0))
        if not self._streams:
            await self._wire.close()

    async def _end(self, code: ErrorCodes | None = None) -> None:
        """The peer breaks the rules. It is told and cut off."""
        if code is not None:
            with suppress(H2Error):
                self._h2.close_connection(code)
        self._sending.flush()
        for stream in self._streams.values():
            stream.abandon()
        await self._wire.close()

    def _handle(self, event: e.Event) -> None:
        if isinstance(event, _CHATTER):
            self._spend(self._chatter)
        match event:
            case e.RequestReceived():
                self._open(event.stream_id, event.headers)
            case e.DataReceived():
                self._feed(event)
            case e.StreamEnded() if stream := self._streams.get(event.stream_id):
                stream.end_body()
            case e.StreamReset():
                self._spend(self._resets)
                if stream := self._streams.get(event.stream_id):
                    self._abandon(stream)
            case e.WindowUpdated():
                self._sending.widen(event.stream_id, event.delta)
            case e.RemoteSettingsChanged():
                self._sending.wake()
            case e.ConnectionTerminated():
                # h2 sends nothing to a peer that has said this.
                self._wire.cut()

    def _spend(self, budget: Budget) -> None:
        if not budget.spend(1, now=trio.current_time()):
            raise FloodError

    def _open(self, number: int, headers: Headers) -> None:
        if self._leaving or len(self._streams) >= self._max_streams:
            # Tasks count, not what h2 counts: a stream that was reset may still hold a slot.
            self._spend(self._resets)
            self._h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        self._newest = number
        try:
            stream = Stream(number, make_scope(headers, self._scope), self._sending)
        except MalformedError:
            self._h2.send_headers(number, [(b":status", b"400"), *self._date()], end_stream=True)
            return
        self._streams[number] = stream
        self._wire.set_idle(idle=False)
        self._spawn(self._serve, stream)

    def _abandon(self, stream: Stream) -> None:
        stream.abandon()
        if not stream.begun:
            del self._streams[stream.number]

    async def _serve(self, stream: Stream) -> None:
        await stream.run(self._app)
        self._streams.pop(stream.number, None)
        with suppress(H2Error):
            self._tidy(stream)
        self._sending.flush()
        self._sending.wake()
        if not self._streams:
            self._wire.set_idle(idle=True)
            if self._leaving:
                await self._wire.close()

    def _tidy(self, stream: Stream) -> None:
        """The application is done; the client must know, and get back what it may send."""
        if stream.held:
            self._h2.acknowledge_received_data(stream.held, stream.number)
        if stream.reset:
            return
        if not stream.started:
            head = [(b":status", b"500"), *self._date()]
            self._h2.send_headers(stream.number, head, end_stream=True)
        elif not stream.complete:
            self._h2.reset_stream(stream.number, ErrorCodes.INTERNAL_ERROR)
        if not stream.received:
            self._h2.reset_stream(stream.number, ErrorCodes.NO_ERROR)

    def _feed(self, event: e.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if not event.data and not event.stream_ended:
            self._spend(self._chatter)
        taken = event.flow_controlled_length - (len(event.data) if stream else 0)
        if taken:
            self._h2.acknowledge_received_data(taken, event.stream_id)
        if stream:
            stream.feed(event.data)
