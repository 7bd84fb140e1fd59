"""A WebSocket on a connection: Hypercorn's, with what it lacks.

Each override names the defect of Hypercorn 0.18.0 that it cures.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.protocol.events import Data, Event, Request, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import ASGISendEvent, WebsocketAcceptEvent
from wsproto.connection import ConnectionState


class Frames(WSStream):
    """One WebSocket, from its handshake to its end."""

    def __init__(self, *upstream: Any) -> None:  # noqa: ANN401  # handed on as they are
        super().__init__(*upstream)
        self._answered = trio.Event()

    async def handle(self, event: Event) -> None:
        """Upstream ends the process over a frame that comes before the handshake is answered."""
        if isinstance(event, Data) and not self.closed:
            await self._answered.wait()
            if not self.handshake.accepted:
                return
        await super().handle(event)
        if isinstance(event, Request) and self.closed:
            # Upstream refuses a bad handshake and then keeps the connection for ever.
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: ASGISendEvent | None) -> None:
        try:
            await super().app_send(message)
        finally:
            if self.state is not ASGIWebsocketState.HANDSHAKE or message is None:
                self._answered.set()

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        # Compressed, twelve times as many tokens fit into the buffers of a reader that has stopped,
        # and a socket costs 100 KiB more.
        self.handshake.extensions = None
        await super()._accept(message)

    async def _send_pings(self) -> None:
        """Upstream's first ping comes at once, when a client may be closing already.

        trio-websocket raises out of its nursery then.
        """
        assert self.config.websocket_ping_interval is not None
        await self.context.sleep(self.config.websocket_ping_interval)
        await super()._send_pings()

    async def _handle_events(self) -> None:
        """Upstream answers a message over the limit with a close frame, and then keeps generating.

        The next frame ends its process.
        """
        await super()._handle_events()
        closing = self.connection.state is not ConnectionState.OPEN
        if closing and self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            await self.send(StreamClosed(stream_id=self.stream_id))
