"""One request: a nursery, a channel of size zero, a task that decodes and a writer.

    source --emit--> channel of size 0 --> encoder --> sink
    (child task)                          (this task)

The decode task cannot send before the writer receives, and the writer does not receive while its
sink blocks. Where the writer waits and the wire takes an event at once, the decode task itself has
it encoded and written, which spares two passes of the scheduler; nothing is held in between. So a
reader that stops reading stops its own decode task, which stops asking for
tokens, which leaves its row out of the model's steps. Whatever ends one end of the channel ends
the other: both live in the same nursery.

At most this many tokens are computed beyond the last completed write: one in the writer's hand,
one in the decode task's, `lookahead` in the decoder's, and those whose text is still held back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import trio

from penstock.errors import PenstockError, internal
from penstock.events import Delta, Ended, Event, Failed, Terminal
from penstock.live import Live
from penstock.writer import Writer

log = logging.getLogger(__name__)

EVENTS_A_TURN = 16
"""A source that never has to wait lets others run after this many."""

Emit: TypeAlias = Callable[[Delta | Ended], Awaitable[None]]
Source: TypeAlias = Callable[[Emit], Awaitable[Terminal]]


class Encoder(Protocol):
    """Events to bytes, for one dialect. Pure; empty bytes mean that nothing is to be written."""

    def encode(self, event: Event) -> bytes: ...

    def heartbeat(self) -> bytes: ...


class Sink(Protocol):
    """The wire. `event` is None for a heartbeat; a failure may come before anything was written."""

    async def open(self) -> None:
        """The request was accepted; the first event may be a while."""

    async def permit(self, event: Event | None) -> bool:
        """Wait until the reader wants this; False where it is to be dropped."""

    async def write(self, data: bytes, event: Event | None) -> None: ...

    def release(self) -> None:
        """Decoding was stopped: hold no event back any more, and drop what has not been written."""


@runtime_checkable
class SinkNowait(Protocol):
    """A sink that need not wait where the wire has room."""

    def write_nowait(self, data: bytes, event: Delta | Ended) -> bool:
        """Whether all of it is out. If not, `permit` and `write` follow for the same event."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a stream may be silent, and how long one write may block, in seconds.

    `min_drain_bytes_s` is the slowest that a reader may be for as long as that; 0 sets no pace.
    """

    heartbeat_s: float
    stall_deadline_s: float
    min_drain_bytes_s: float = 0.0


async def run(live: Live, source: Source, encoder: Encoder, sink: Sink, *, pace: Pace) -> None:
    """Write everything that `source` emits, then one terminal event, to `sink`.

    Resource handling: both tasks have ended when this returns or raises.
    Error handling: what `source` raises becomes the terminal event; what `sink` raises propagates
    (in a group). A write that blocks for too long ends the stream as stalled: see `Patience`.
    """
    live.release = sink.release
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[Event](0)
        at_once = sink if isinstance(sink, SinkNowait) else None
        writer = Writer(live, receive, encoder, sink, pace, at_once)
        nursery.start_soon(_produce, live, source, send, _Emitter(writer, send))
        try:
            with trio.move_on_after(pace.stall_deadline_s) as patience:
                await sink.open()
            if patience.cancelled_caught:
                live.stalled()
            else:
                await writer.run()
        finally:
            # In this order: a closed channel would raise in the task that is sending.
            nursery.cancel_scope.cancel()
            receive.close()


async def _produce(
    live: Live, source: Source, send: trio.MemorySendChannel[Event], emit: Emit
) -> None:
    terminal: Terminal | None = None
    # Not `async with`: its closing checkpoint can replace the error that is being raised.
    with send:
        with live.scope:
            terminal = await attempt(source, emit)
        await send.send(live.end(terminal or live.stopped()))


class _Emitter:
    """Hands events to a writer: by a call while it waits, else through the channel."""

    def __init__(self, writer: Writer, send: trio.MemorySendChannel[Event]) -> None:
        self._writer = writer
        self._send = send
        self._count = 0

    async def __call__(self, event: Delta | Ended) -> None:
        if not self._writer.offer(event):
            await self._hand_over(event)
            return
        self._count += 1
        if self._count >= EVENTS_A_TURN:
            self._count = 0
            await trio.lowlevel.checkpoint()

    async def _hand_over(self, event: Event) -> None:
        try:
            # To a writer that waits: that saves the scheduler pass which `send` makes afterwards.
            self._send.send_nowait(event)
        except (trio.WouldBlock, trio.BrokenResourceError):
            # Where the writer is gone this task has been cancelled, and `send` says so.
            await self._send.send(event)


async def attempt(source: Source, emit: Emit) -> Terminal:
    """How `source` ended; what it raised is told as a failure."""
    try:
        return await source(emit)
    except PenstockError as error:
        return Failed(error)
    except Exception:
        log.exception("a generation failed")
        return Failed(internal())
