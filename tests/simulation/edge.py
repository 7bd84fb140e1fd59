"""The server's own connections, on pipes."""

from __future__ import annotations

from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.typing import ASGIFramework

from penstock.settings import Settings
from penstock.web import edge, server
from penstock.web.app import App
from penstock.web.connection import Connection

from .pipes import PipeStream, make_pair


class PipeConnection(Connection):
    """Its kernel is a pipe."""

    def write_nowait(self, data: memoryview) -> int:
        return cast("PipeStream", self.stream).send_nowait(bytes(data))

    async def write_some(self, data: memoryview) -> int:
        return await cast("PipeStream", self.stream).send_some(bytes(data))


class Edge:
    """Accepts connections until it is shut."""

    def __init__(self, app: App, settings: Settings, nursery: trio.Nursery) -> None:
        self.open = True
        self._nursery = nursery
        self._ends: list[PipeStream] = []
        wrapped = ASGIWrapper(cast("ASGIFramework", edge.wrap(app, settings)))
        self._edge = edge.Edge(wrapped, settings, server._config(settings))

    def connect(self, capacity: int) -> PipeStream:
        """The client's end. Raises `ConnectionRefusedError`."""
        if not self.open:
            raise ConnectionRefusedError
        mine, theirs = make_pair(capacity)
        self._ends.append(mine)
        self._nursery.start_soon(PipeConnection(self._edge, cast("Any", theirs)).run)
        return mine

    def cut(self) -> None:
        """All connections, as a kernel does whose process has died."""
        self.open = False
        for end in self._ends:
            end.reset()

    def drain(self) -> None:
        self.open = False
        self._edge.draining.set()
