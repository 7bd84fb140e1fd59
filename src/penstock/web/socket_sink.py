"""A sink on a WebSocket."""

from __future__ import annotations

from collections.abc import Callable

from penstock.events import Delta, Event
from penstock.web.credits import Credits
from penstock.web.exchange import Send


class SocketSink:
    """A pipeline's messages on the socket. Tokens wait for credits, all else goes at once."""

    def __init__(
        self, send: Send, opening: bytes, allowed: Credits, done: Callable[[], None]
    ) -> None:
        self._send = send
        self._opening = opening
        self._credits = allowed
        self._done = done

    async def open(self) -> None:
        await send_text(self._send, self._opening)

    async def permit(self, event: Event | None) -> bool:
        return not isinstance(event, Delta) or await self._credits.take()

    async def write(self, data: bytes, event: Event | None) -> None:
        if not isinstance(event, Delta):
            # Before the terminal is out, so that a client may start again as soon as it reads it.
            self._done()
        await send_text(self._send, data)

    def release(self) -> None:
        self._credits.release()


async def send_text(send: Send, data: bytes) -> None:
    await send({"type": "websocket.send", "text": data.decode(), "bytes": None})
