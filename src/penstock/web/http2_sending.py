"""The sending half of an HTTP/2 connection: what may be framed when, and for whom."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from h2.connection import H2Connection
from h2.exceptions import H2Error

from penstock.web.budget import Budget
from penstock.web.http2_output import Output
from penstock.web.http2_stream import Headers, Stream

WINDOW_BYTES = (1 << 16) - 1
"""HTTP/2's own default."""
CHATTER_A_FRAME = 2
"""Window updates, mostly, that a frame of ours may be answered with."""


class Sending:
    """Writes for the streams of one connection, each within its windows and in its turn.

    A write is made by the request's own task. While a window is shut that task waits, and nothing
    is queued for it anywhere.
    """

    def __init__(
        self, h2: H2Connection, output: Output, chatter: Budget, date: Callable[[], Headers]
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self._h2 = h2
        self._output = output
        self._chatter = chatter
        self._date = date
        self._widest = WINDOW_BYTES

    def flush(self) -> None:
        self._output.push(self._h2.data_to_send())

    def widen(self, number: int, delta: int) -> None:
        """The peer has widened a stream's window, or for 0 the connection's."""
        if not number:
            self._widest = max(self._widest, self._h2.outbound_flow_control_window)
            self.wake()
        elif stream := self.streams.get(number):
            stream.outstanding = max(0, stream.outstanding - delta)
            stream.wake()

    def wake(self) -> None:
        for stream in self.streams.values():
            stream.wake()

    def acknowledge(self, stream: Stream, count: int) -> None:
        with suppress(H2Error):
            self._h2.acknowledge_received_data(count, stream.number)
        self.flush()

    def send_continue(self, stream: Stream) -> None:
        with suppress(H2Error):
            self._h2.send_headers(stream.number, [(b":status", b"100")])
        self.flush()

    def send_headers(self, stream: Stream, headers: Headers, *, last: bool) -> None:
        with suppress(H2Error):
            self._h2.send_headers(stream.number, [*headers, *self._date()], end_stream=last)
        if last:
            self.flush()

    async def send_data(self, stream: Stream, data: bytes, *, last: bool) -> None:
        while not stream.reset:
            if data and self._room(stream) <= 0:
                self.flush()
                await stream.wait_window()
                continue
            await self._output.take_turn()
            try:
                data = self._frame(stream, data, last=last)
                self.flush()
                await self._output.flushed()
            finally:
                self._output.turn.release()
            if not data:
                return

    def _frame(self, stream: Stream, data: bytes, *, last: bool) -> bytes:
        """Frame what may go now, and give back the rest."""
        size = min(len(data), self._room(stream), self._h2.max_outbound_frame_size)
        rest = data[size:]
        try:
            if size or (last and not data):
                stream.complete = last and not rest
                self._h2.send_data(stream.number, data[:size], end_stream=stream.complete)
        except H2Error:
            stream.abandon()
        stream.outstanding += size
        self._chatter.earn(CHATTER_A_FRAME)
        return rest

    def _room(self, stream: Stream) -> int:
        """How much this stream may send now.

        A client shares one window among its streams, and one that it does not read could fill it.
        So beside others a stream takes no more than half of its own window, after which every
        client that reads has widened it, unless more than half of the shared one is left.
        """
        if stream.reset:
            return 0
        room = self._h2.local_flow_control_window(stream.number)
        if len(self.streams) > 1:
            own = (self._h2.remote_settings.initial_window_size + 1) // 2 - stream.outstanding
            shared = self._h2.outbound_flow_control_window - self._widest // 2
            room = min(room, max(own, shared))
        return max(room, 0)
