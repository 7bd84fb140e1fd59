"""The reader's end of a pipeline: takes events, encodes them and writes them, in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from penstock.events import Delta, Ended, Event, Failed, Finished
from penstock.live import Live
from penstock.patience import Patience

if TYPE_CHECKING:
    from penstock.pipeline import Encoder, Pace, Sink, SinkNowait


class Writer:
    """Takes, encodes and writes, under one cancel scope whose deadline is moved.

    A scope for each wait cost 40 % of a token's time. Past its deadline a scope stays cancelled, so
    the next wait gets a new one. While it waits for an event, the decode task may `offer` it one.
    """

    def __init__(
        self,
        live: Live,
        receive: trio.MemoryReceiveChannel[Event],
        encoder: Encoder,
        sink: Sink,
        pace: Pace,
        sink_nowait: SinkNowait | None = None,
    ) -> None:
        self._live = live
        self._receive = receive
        self._encoder = encoder
        self._sink = sink
        self._sink_nowait = sink_nowait
        self._pace = pace
        self._patience = Patience(pace.stall_deadline_s, pace.min_drain_bytes_s)
        self._scope = trio.CancelScope()
        self._event: Event | None = None
        self._data = b""
        self._done = False
        self._waiting = False
        self._active_s = trio.current_time()
        """When something was last written: what an encoder holds back is silence on the wire."""

    def offer(self, event: Delta | Ended) -> bool:
        """Encode and write `event` here and now, if the writer waits for one and the sink has room.

        Where this is False the event must be sent to the writer, which does what is left to do.
        """
        if not self._waiting or self._scope.cancel_called:
            return False
        self._take(event)
        if not self._data:
            self._event = None
            return True
        if self._sink_nowait is None or not self._sink_nowait.write_nowait(self._data, event):
            self._waiting = False
            return False
        self._active_s = now = trio.current_time()
        self._patience.wrote(len(self._data), 0)
        self._live.flow.wrote(event, now, now)
        self._event, self._data = None, b""
        return True

    async def run(self) -> None:
        while not self._done:
            with trio.CancelScope() as self._scope:
                await self._work()
            self._waiting = False
            if self._scope.cancelled_caught and self._data:
                self._stalled()
            elif self._scope.cancelled_caught and self._silent_until_s <= trio.current_time():
                self._active_s = trio.current_time()
                self._event, self._data = None, self._encoder.heartbeat()

    @property
    def _silent_until_s(self) -> float:
        return self._active_s + self._pace.heartbeat_s

    async def _work(self) -> None:
        while not self._done and not self._scope.cancel_called:
            if self._data:
                await self._deliver()
                self._done |= isinstance(self._event, Finished | Failed)
                self._event, self._data = None, b""
            else:
                event = await self._next()
                if event is not self._event:
                    self._take(event)
                self._done |= not self._data and isinstance(event, Finished | Failed)

    async def _next(self) -> Event:
        try:
            # From a task that waits to send: that saves the scheduler pass that follows `receive`.
            event = self._receive.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            # At its end all of this has been cancelled, and `receive` says so.
            self._scope.deadline, self._waiting = self._silent_until_s, True
            event = await self._receive.receive()
            self._waiting = False
        return event

    def _take(self, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            event, self._live.told = self._live.end(event), True
        self._event, self._data = event, self._encoder.encode(event)
        if not self._data:
            self._live.flow.folded(event)

    async def _deliver(self) -> None:
        self._scope.deadline = trio.current_time() + self._pace.stall_deadline_s
        if not await self._sink.permit(self._event):
            return
        started = trio.current_time()
        self._scope.deadline = started + self._patience.left_s
        await self._sink.write(self._data, self._event)
        ended = trio.current_time()
        self._active_s = ended
        self._patience.wrote(len(self._data), ended - started)
        if self._event is not None:
            self._live.flow.wrote(self._event, started, ended)
        if self._patience.left_s <= 0:
            self._stalled()

    def _stalled(self) -> None:
        self._live.stalled()
        self._done = True
