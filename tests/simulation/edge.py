"""The server's own connections, on pipes."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, LifespanState

from penstock.web import server
from penstock.web.app import App
from penstock.web.connection import Connection

from .pipes import PipeStream, make_pair


class PipeConnection(Connection):
    """Writes to its stream where there is no kernel to try first."""

    stream: Any

    def _write_nowait(self, data: memoryview) -> int:
        return 0

    async def _write_some(self, data: memoryview) -> int:
        sent: int = await self.stream.send_some(bytes(data))
        return sent


class Edge:
    """Accepts connections until it is shut."""

    def __init__(self, app: App, nursery: trio.Nursery) -> None:
        self.open = True
        self._nursery = nursery
        self._serve = partial(
            PipeConnection,
            ASGIWrapper(cast("ASGIFramework", app)),
            server._config(),
            WorkerContext(None),
            LifespanState(),
        )

    def connect(self, capacity: int) -> PipeStream:
        """The client's end. Raises `ConnectionRefusedError`."""
        if not self.open:
            raise ConnectionRefusedError
        mine, theirs = make_pair(capacity)
        self._nursery.start_soon(self._run, theirs)
        return mine

    async def _run(self, stream: PipeStream) -> None:
        await self._serve(cast("Any", stream))
