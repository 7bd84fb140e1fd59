"""Servers in memory that answer by a script, on virtual time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h11
import trio
import trio.testing

from penstock.loadgen.dialect import Dialect
from penstock.loadgen.outcome import Outcome
from penstock.loadgen.plan import Ask, Kind
from penstock.loadgen.reader import Habits, Readers
from penstock.loadgen.wire import Target

TARGET = Target("test", 80, tls=False, base="/v1")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(text: str | None = None, **fields: object) -> bytes:
    """A chunk of a completion as an event."""
    choices = [] if text is None else [{"index": 0, "text": text, "finish_reason": None}]
    return b"data: %s\n\n" % json.dumps({"choices": choices, **fields}).encode()


def finish(tokens: int = 0) -> bytes:
    """How an answer ends, with its usage where `tokens` are given."""
    ended = b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'
    usage = {"prompt_tokens": 5, "completion_tokens": tokens}
    return ended + (event(usage=usage) if tokens else b"") + DONE


def answer(pieces: int, *, tokens: int = 0) -> bytes:
    """A whole response."""
    said = [event("word") for _ in range(pieces)]
    return HEAD + b"".join(map(chunked, [*said, finish(tokens)])) + LAST


Serve = Callable[["Line"], Awaitable[None]]


@dataclass
class Line:
    """The server's end of one connection, with the request that came on it."""

    number: int
    stream: trio.abc.Stream
    body: dict[str, object] = field(default_factory=dict)

    async def hear(self) -> None:
        """Read the request."""
        http = h11.Connection(h11.SERVER)
        data = b""
        while True:
            match http.next_event():
                case h11.NEED_DATA:
                    http.receive_data(bytes(await self.stream.receive_some(65536)))
                case h11.Data(data=more):
                    data += more
                case h11.EndOfMessage():
                    self.body = json.loads(data)
                    return

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)


class MemoryServer:
    """Serves each connection with `serve`, in `nursery`."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        self.smalls: list[bool] = []
        self.lines: list[Line] = []
        self.refuses = False
        self._nursery = nursery
        self._serve = serve

    async def connect(self, small: bool) -> trio.abc.Stream:
        if self.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.lockstep_stream_pair()
        line = Line(len(self.lines), theirs)
        self.smalls.append(small)
        self.lines.append(line)
        self._nursery.start_soon(self._run, line)
        return ours

    async def _run(self, line: Line) -> None:
        try:
            await line.hear()
            await self._serve(line)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(line.stream)

    def readers(self, habits: Habits | None = None) -> Readers:
        """A clock that begins now."""
        return Readers(
            TARGET, self.connect, Dialect("text"), (), habits or Habits(), trio.current_time()
        )


def make_ask(kind: Kind = "reader", *, after: int = 1, number: int = 0) -> Ask:
    return Ask(number, kind, "a b c", 16, after)


async def read(serve: Serve, ask: Ask | None = None, habits: Habits | None = None) -> Outcome:
    """What comes of one request to such a server."""
    told: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, serve)
        await server.readers(habits).read(ask or make_ask(), 0.0, told.append)
        nursery.cancel_scope.cancel()
    (outcome,) = told
    return outcome


def paced(pieces: int, *, first_s: float, gap_s: float, tokens: int = 0) -> Serve:
    """A server whose answers have `pieces`, the first after `first_s`, then one each `gap_s`."""

    async def serve(line: Line) -> None:
        await line.say(HEAD)
        for number in range(pieces):
            await trio.sleep(gap_s if number else first_s)
            await line.say(chunked(event("word")))
        await line.say(chunked(finish(tokens)) + LAST)

    return serve
