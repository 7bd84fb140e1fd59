"""Connections that are reset between any two bytes: each event arrives once, in order, the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Protocol

import pytest
import trio

from .asked import PROMPT
from .cutter import BROKEN, Cut, Cutter
from .raw import HANDSHAKE, TEXT, frame
from .servers import Server

CLIENTS, CUTS = 25, 20
BODY = {"prompt": PROMPT, "max_tokens": 250, "temperature": 1, "ignore_eos": True}
PATIENCE_S = 60


def any_byte(seed: int) -> Iterator[Cut]:
    """Most cuts are at a byte of the answer, some within the request."""
    random = Random(seed)
    for _ in range(CUTS):
        if random.random() < 0.2:
            yield Cut(up=random.randrange(80))
        else:
            yield Cut(down=random.randrange(900))


def submit(server: Server, seed: int) -> str:
    answer = server.ask("POST", "/v1/jobs", BODY | {"seed": seed})
    job_id: str = answer.json["job_id"]
    return job_id


class Reader(Protocol):
    async def run(self, port: int) -> None:
        """Read to the end, over as many connections as that takes."""


class EventReader:
    """Does what EventSource does: keeps whole events, and asks for those behind the last."""

    def __init__(self, path: str) -> None:
        self.events: list[bytes] = []
        self._path = path

    @property
    def last_id(self) -> bytes:
        return self.events[-1].split(b"id: ")[1].split(b"\n")[0] if self.events else b""

    @property
    def numbers(self) -> list[int]:
        """From the ids, which may begin with the name of a job."""
        ids = [event.split(b"id: ")[1].split(b"\n")[0] for event in self.events]
        return [int(each.split(b":")[-1]) for each in ids]

    @property
    def done(self) -> bool:
        return bool(self.events) and not self.events[-1].startswith(b"event: token\n")

    async def run(self, port: int) -> None:
        while not self.done:
            with suppress(*BROKEN):
                await self._connect(port)

    async def _connect(self, port: int) -> None:
        told = b"Last-Event-ID: " + self.last_id + b"\r\n" if self.events else b""
        head = f"GET {self._path} HTTP/1.1\r\nHost: x\r\n".encode() + told + b"\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head)
            data = b""
            while not self.done and (got := await stream.receive_some(65536)):
                data = self._take(data + bytes(got))

    def _take(self, data: bytes) -> bytes:
        """Keep each event that is whole, and give back what is left. One chunk holds one event."""
        while (end := data.find(b"\n\n\r\n")) >= 0:
            start = data.rfind(b"event: ", 0, end)
            self.events.append(data[start : end + 2].replace(b"retry: 1000\n", b""))
            data = data[end + 4 :]
        return data


class SocketReader:
    """Keeps what it heard, and resumes behind the last of it on another socket."""

    def __init__(self, job_id: str | None = None) -> None:
        self.job_id = job_id
        self.heard: list[bytes] = []

    @property
    def done(self) -> bool:
        return bool(self.heard) and not self.heard[-1].startswith(b'{"type":"token"')

    async def run(self, port: int) -> None:
        while not self.done:
            with suppress(*BROKEN):
                await self._connect(port)

    async def _connect(self, port: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(HANDSHAKE)
            data = b""
            while b"\r\n\r\n" not in data:
                if not (got := await stream.receive_some(65536)):
                    return
                data += got
            await stream.send_all(frame(TEXT, json.dumps(self._opening()).encode()))
            data = self._take(data.split(b"\r\n\r\n", 1)[1])
            while not self.done and (got := await stream.receive_some(65536)):
                data = self._take(data + bytes(got))

    def _take(self, data: bytes) -> bytes:
        """Keep each message that is whole, and give back what is left. All are short."""
        while len(data) >= 4:
            size, start = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4]), 4)
            if len(data) < start + size:
                break
            self._hear(data[start : start + size])
            data = data[start + size :]
        return data

    def _hear(self, message: bytes) -> None:
        if message.startswith(b'{"type":"started"'):
            self.job_id = json.loads(message)["job_id"]
        else:
            self.heard.append(message)

    def _opening(self) -> dict[str, object]:
        if self.job_id is None:
            return {"type": "start", **BODY, "resumable": True}
        return {"type": "resume", "job_id": self.job_id, "after": len(self.heard)}


async def read_through(server: Server, cuts: Iterator[Cut], reader: Reader) -> int:
    """Read to the end through a proxy that cuts. Returns how often it did."""
    cutter = Cutter(server, cuts)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(cutter.run)
            await reader.run(cutter.port)
            nursery.cancel_scope.cancel()
    return cutter.made


async def read_all_through(server: Server, readers: Sequence[Reader]) -> int:
    made: list[int] = []

    async def read(seed: int, reader: Reader) -> None:
        made.append(await read_through(server, any_byte(seed), reader))

    async with trio.open_nursery() as nursery:
        for seed, reader in enumerate(readers):
            nursery.start_soon(read, seed, reader)
    return sum(made)


@pytest.mark.heavy
async def test_events_survive_500_cuts(server: Server) -> None:
    jobs = [submit(server, seed) for seed in range(CLIENTS)]
    readers = [EventReader(f"/v1/stream?job_id={job_id}") for job_id in jobs]
    assert await read_all_through(server, readers) == CLIENTS * CUTS
    for job_id, reader in zip(jobs, readers, strict=True):
        whole = EventReader(f"/v1/stream?job_id={job_id}")
        await whole.run(server.port)
        assert reader.events == whole.events
        assert reader.numbers == list(range(1, len(reader.events) + 1))


@pytest.mark.heavy
async def test_messages_survive_500_cuts(server: Server) -> None:
    readers = [SocketReader(submit(server, seed) if seed % 2 else None) for seed in range(CLIENTS)]
    assert await read_all_through(server, readers) == CLIENTS * CUTS
    for reader in readers:
        whole = SocketReader(reader.job_id)
        await whole.run(server.port)
        assert reader.heard == whole.heard
        numbers = [json.loads(message)["seq"] for message in reader.heard]
        assert numbers == list(range(1, len(numbers) + 1))
        assert json.loads(reader.heard[-1])["type"] == "complete"


@pytest.mark.slow
async def test_a_question_survives_being_cut_and_is_asked_once(server: Server) -> None:
    """Its first event arrives, or the client would rightly ask anew."""
    readers = [EventReader("/chat/stream?prompt=Hi&max_tokens=40&seed=1") for _ in range(10)]

    async def read(seed: int, reader: EventReader) -> None:
        random = Random(seed)
        cuts = iter([Cut(down=random.randrange(500, 1500)) for _ in range(CUTS)])
        await read_through(server, cuts, reader)

    with server.endings() as ended:
        async with trio.open_nursery() as nursery:
            for seed, reader in enumerate(readers):
                nursery.start_soon(partial(read, seed, reader))
    assert ended.total() == len(readers)
    for reader in readers:
        assert reader.numbers == list(range(1, len(reader.events) + 1))
