"""A job's events over a WebSocket; what was taken is acknowledged on the same connection."""

from __future__ import annotations

import json
from typing import Any

import httpx

from penstock.client.errors import error_of
from penstock.client.source import LostError, Told
from penstock.client.web_socket import WebSocket


class JobSocket:
    """Each event is acknowledged as it is taken, so the job's window is exact.

    A connection that is left unread for long is ended by the server, since pings are answered only
    while an event is waited for. The job goes on from there over another.
    """

    def __init__(self, url: httpx.URL, headers: list[tuple[bytes, bytes]], job_id: str) -> None:
        self._url = url
        self._headers = headers
        self._job_id = job_id
        self._acknowledged = 0
        self._socket: WebSocket | None = None

    async def take(self, after: int) -> Told:
        if self._socket is None:
            self._socket = await WebSocket.open(self._url, self._headers)
            self._acknowledged = 0
            await self._tell("resume", job_id=self._job_id, after=after)
        if after > self._acknowledged:
            await self._tell("ack", seq=after)
            self._acknowledged = after
        return await self._event()

    async def close(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _event(self) -> Told:
        if self._socket is None:
            raise LostError
        while True:
            told: dict[str, Any] = json.loads(await self._socket.receive())
            if "seq" in told:
                return Told(told["seq"], told["type"], told)
            if told["type"] == "error":
                raise error_of(told["error"])

    async def _tell(self, kind: str, **fields: object) -> None:
        if self._socket is None:
            raise LostError
        await self._socket.send(json.dumps({"type": kind, **fields}))
