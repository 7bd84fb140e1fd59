"""Bytes that no client should send."""

from __future__ import annotations

import trio

from .client import Client
from .wire import LostError, Pace


class Rubbish(Client):
    """Bytes that are no request, or no good one."""

    async def act(self) -> None:
        random = self.random
        exchange = self.exchange(Pace(stop_at=0, stop_s=random.choice((0, 10))))
        data = random.choice(
            (
                random.randbytes(300),
                b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 300,
                b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
                b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
                b"GET /v1/stream?job_id=job_1 HTTP/1.1\r\nhost: x\r\nlast-event-id: -1\r\n\r\n",
                b"DELETE /v1/jobs/%00 HTTP/1.1\r\nhost: x\r\n\r\n" * 3,
                b"GET /v1/ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n",
            )
        )
        try:
            await exchange.wire.send(data)
            with trio.move_on_after(random.uniform(0, 20)):
                while await exchange.wire.read():
                    pass
        except LostError:
            pass
        self.tell(f"sent rubbish: {data[:30]!r}")
        exchange.wire.reset()
