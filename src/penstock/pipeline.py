"""One request: a nursery, a channel of size zero, a task that decodes and a writer.

    source --emit--> channel of size 0 --> encoder --> sink
    (child task)                          (this task)

The decode task cannot send before the writer receives, and the writer does not receive while its
sink blocks. So a reader that stops reading stops its own decode task, which stops asking for
tokens, which leaves its row out of the model's steps. Whatever ends one end of the channel ends
the other: both live in the same nursery.

At most this many tokens are computed beyond the last completed write: one in the writer's hand,
one in the decode task's, `lookahead` in the decoder's, and those whose text is still held back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import trio

from penstock.errors import PenstockError, internal
from penstock.events import Delta, Ended, Event, Failed, Terminal
from penstock.live import Live
from penstock.writer import Writer

log = logging.getLogger(__name__)

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
        nursery.start_soon(_produce, live, source, send)
        try:
            with trio.move_on_after(pace.stall_deadline_s) as patience:
                await sink.open()
            if patience.cancelled_caught:
                live.stalled()
            else:
                await Writer(live, receive, encoder, sink, pace).run()
        finally:
            # In this order: a closed channel would raise in the task that is sending.
            nursery.cancel_scope.cancel()
            receive.close()


async def _produce(live: Live, source: Source, send: trio.MemorySendChannel[Event]) -> None:
    terminal: Terminal | None = None
    # Not `async with`: its closing checkpoint can replace the error that is being raised.
    with send:
        with live.scope:
            terminal = await attempt(source, partial(_emit, send))
        await send.send(live.end(terminal or live.stopped()))


async def _emit(send: trio.MemorySendChannel[Event], event: Event) -> None:
    try:
        # To a writer that waits: that saves the scheduler pass which `send` makes afterwards.
        send.send_nowait(event)
    except (trio.WouldBlock, trio.BrokenResourceError):
        # Where the writer is gone this task has been cancelled, and `send` says so.
        await send.send(event)


async def attempt(source: Source, emit: Emit) -> Terminal:
    """How `source` ended; what it raised is told as a failure."""
    try:
        return await source(emit)
    except PenstockError as error:
        return Failed(error)
    except Exception:
        log.exception("a generation failed")
        return Failed(internal())
