"""One HTTP exchange, sans I/O: bytes and times go in, an outcome comes out."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import h11

from penstock.loadgen.dialect import DONE, Said, Usage, hear
from penstock.loadgen.events import EventParser
from penstock.loadgen.outcome import Ending

TOLD = 200
"""Characters kept of what a server says about an error."""
BUSY = (429, 503)

Headers = Sequence[tuple[str, str]]


class Answer:
    """What one server says to one request. `ending` is None until it has ended."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self.detail = ""
        self.times = array("d")
        self.usage: Usage | None = None
        self.bytes_read = 0
        self._http = h11.Connection(h11.CLIENT)
        self._events = EventParser()
        self._status = 0
        self._said = b""
        self._finished = False

    def ask(self, target: str, headers: Headers, body: bytes) -> bytes:
        """The request as bytes."""
        sized = [*headers, ("content-length", str(len(body)))]
        request = h11.Request(method="POST", target=target, headers=sized)
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._http.send(part) or b"" for part in parts)

    def feed(self, data: bytes, now_s: float) -> None:
        """Take what was read at `now_s`; nothing means that the server closed the connection."""
        self.bytes_read += len(data)
        try:
            self._http.receive_data(data)
            while self.ending is None and self._next(now_s):
                pass
        except h11.RemoteProtocolError as error:
            self._end("protocol" if data else "cut", "" if not data else str(error))

    def _next(self, now_s: float) -> bool:
        """Take one event of the connection, and say whether there may be more."""
        match self._http.next_event():
            case h11.Response() as response:
                self._take_head(response)
            case h11.Data(data=data):
                self._take_body(bytes(data), now_s)
            case h11.EndOfMessage():
                self._take_end()
            case h11.ConnectionClosed():
                self._end("cut", "")
            case h11.InformationalResponse():
                pass
            case _:
                return False
        return True

    def _take_head(self, response: h11.Response) -> None:
        self._status = response.status_code
        kinds = [value for name, value in response.headers if name == b"content-type"]
        streams = kinds and kinds[0].startswith(b"text/event-stream")
        if self._status == 200 and not streams:
            self._end("protocol", "the answer is no event stream")

    def _take_body(self, data: bytes, now_s: float) -> None:
        if self._status != 200:
            self._said += data[: TOLD - len(self._said)]
            return
        for payload in self._events.feed(data):
            self._take_event(payload, now_s)
            if self.ending:
                return

    def _take_event(self, payload: bytes, now_s: float) -> None:
        if payload == DONE:
            self._finish()
            return
        try:
            said = hear(payload)
        except ValueError as error:
            self._end("protocol", str(error))
        else:
            self._hear(said, now_s)

    def _hear(self, said: Said, now_s: float) -> None:
        if said.error is not None:
            self._end("error", said.error)
            return
        if said.text:
            self.times.append(now_s)
        self._finished |= said.finish_reason is not None
        self.usage = said.usage or self.usage

    def _take_end(self) -> None:
        if self._status != 200:
            told = self._said.decode(errors="replace")
            ending: Ending = "refused" if self._status in BUSY else "http"
            self._end(ending, f"{self._status} {told}")
        else:
            self._finish()

    def _finish(self) -> None:
        """Some servers say [DONE] to a reader whose answer they have given up."""
        if self._finished:
            self._end("done", "")
        else:
            self._end("cut", "ended without a finish_reason")

    def _end(self, ending: Ending, detail: str) -> None:
        self.ending, self.detail = ending, detail[:TOLD]
