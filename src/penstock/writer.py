"""The reader's end of a pipeline: takes events, encodes them and writes them, in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from penstock.events import Event, Failed, Finished
from penstock.live import Live
from penstock.patience import Patience

if TYPE_CHECKING:
    from penstock.pipeline import Encoder, Pace, Sink


class Writer:
    """Takes, encodes and writes, under one cancel scope whose deadline is moved.

    A scope for each wait cost 40 % of a token's time. Past its deadline a scope stays cancelled, so
    the next wait gets a new one.
    """

    def __init__(
        self,
        live: Live,
        receive: trio.MemoryReceiveChannel[Event],
        encoder: Encoder,
        sink: Sink,
        pace: Pace,
    ) -> None:
        self._live = live
        self._receive = receive
        self._encoder = encoder
        self._sink = sink
        self._pace = pace
        self._patience = Patience(pace.stall_deadline_s, pace.min_drain_bytes_s)
        self._scope = trio.CancelScope()
        self._event: Event | None = None
        self._data = b""
        self._done = False

    async def run(self) -> None:
        while not self._done:
            with trio.CancelScope() as self._scope:
                await self._work()
            if self._scope.cancelled_caught and self._data:
                self._stalled()
            elif self._scope.cancelled_caught:
                self._event, self._data = None, self._encoder.heartbeat()

    async def _work(self) -> None:
        while not self._done and not self._scope.cancel_called:
            if self._data:
                await self._deliver()
                self._data = b""
            else:
                self._scope.deadline = trio.current_time() + self._pace.heartbeat_s
                self._take(await self._receive.receive())
            self._done |= not self._data and isinstance(self._event, Finished | Failed)

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
        self._patience.wrote(len(self._data), ended - started)
        if self._event is not None:
            self._live.flow.wrote(self._event, started, ended)
        if self._patience.left_s <= 0:
            self._stalled()

    def _stalled(self) -> None:
        self._live.stalled()
        self._done = True
