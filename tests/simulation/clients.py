"""Clients of every kind, each of which knows what it must get."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any
from urllib.parse import urlencode

import trio

from penstock.requests import Prompt

from .scripted import TEXTS
from .wire import Exchange, LostError, Pace, Socket
from .world import World

WORDS = ("once", "upon", "a", "time", "there", "was", "fog")
MAY_REFUSE = {"overloaded"}
RESUME_WINDOW_S = 30.0


class Client:
    """One client: its draws are its own, so that others do not change what it does."""

    def __init__(self, world: World, random: Random, name: str) -> None:
        self.world = world
        self.random = random
        self.name = name
        words = " ".join(random.choices(WORDS, k=random.randrange(1, 12)))
        self.asked: dict[str, Any] = {
            "prompt": f"{name} {words}",
            "max_tokens": random.randrange(1, 24),
            "seed": random.randrange(1 << 30),
            "ignore_eos": True,
        }
        self.stop = tuple(random.sample(TEXTS, 1)) if random.random() < 0.2 else ()
        self.prompt = world.prompt(self.asked)
        if self.stop:
            self.asked["stop"] = list(self.stop)

    def tell(self, what: str) -> None:
        self.world.tell(self.name, what)

    def expect(self, condition: bool, what: str) -> None:
        self.world.expect(condition, f"{self.name}: {what}")

    def pace(self) -> Pace:
        """Fast, slow, for a while not at all, or gone after some bytes."""
        random = self.random
        match random.choice(("fast", "fast", "slow", "stops", "leaves", "leaves")):
            case "slow":
                return Pace(most=random.choice((40, 90, 300)), wait_s=random.uniform(0, 0.3))
            case "stops":
                stop_s = random.choice((3.0, 12.0, 60.0))
                return Pace(stop_at=random.randrange(1500), stop_s=stop_s)
            case "leaves":
                return Pace(cut_at=random.randrange(2500))
            case _:
                return Pace()

    def exchange(self, pace: Pace | None = None) -> Exchange:
        try:
            return Exchange(self.world.connect(self.random), pace or Pace())
        except ConnectionRefusedError:
            raise LostError from None

    def check_lost(self, pace: Pace) -> None:
        """A connection breaks only for those who do not read, and when the server ends."""
        self.expect(
            self.world.draining
            or pace.cut_at + pace.stop_at < float("inf")
            or pace.stop_s > 0
            or _leaves(pace),
            "lost a connection",
        )

    def check_error(self, error: dict[str, Any], allowed: set[str]) -> None:
        code = error["code"]
        known = code in allowed or (code == "unavailable" and self.world.draining)
        failed = (self.prompt.token_ids, self.prompt.seed) in self.world.engine.failed
        planted = code == "internal_error" and failed
        self.expect(known or planted, f"got {error}")

    def check_pieces(
        self, pieces: list[str], *, end: dict[str, Any] | None, prompt: Prompt | None = None
    ) -> None:
        """What came is how the answer begins, and all of it where `end` says that it is whole."""
        expected, reason, tokens = self.world.engine.script.pieces(prompt or self.prompt, self.stop)
        self.expect(pieces == expected[: len(pieces)], f"got {pieces} instead of {expected}")
        if end is not None:
            self.expect(pieces == expected, f"a whole answer is {expected}, this is {pieces}")
            self.expect(end["finish_reason"] == reason, f"finished as {end['finish_reason']}")
            self.expect(end["usage"]["completion_tokens"] == tokens, f"counted {end['usage']}")

    async def run(self) -> None:
        await trio.sleep(self.random.uniform(0, 30))
        self.tell("arrives")
        try:
            await self.act()
        except LostError:
            self.expect(self.world.draining, "lost a connection that it was reading")
            self.tell("found the server gone")
        self.tell("is done")

    async def act(self) -> None:
        raise NotImplementedError


def _leaves(pace: Pace) -> bool:
    return pace.cut_at < float("inf") or pace.stop_at < float("inf")


class Streaming(Client):
    """POST /v1/completions with stream."""

    async def act(self) -> None:
        pace, pieces, end, buffer = self.pace(), list[str](), None, bytearray()
        exchange = self.exchange(pace)
        try:
            body = {**self.asked, "stream": True, "stream_options": {"include_usage": True}}
            await exchange.ask("POST", "/v1/completions", json.dumps(body).encode())
            while (event := await exchange.event(buffer)) is not None:
                if event == b"data: [DONE]":
                    self.expect(await exchange.next() is None, "something after the end")
                    self.check_pieces(pieces, end=end)
                    self.tell(f"streamed all of {len(pieces)}")
                    return
                if event.startswith(b"data: "):
                    end = self._take(json.loads(event[6:]), pieces, end)
                if end is not None and "code" in end:
                    break
            if exchange.status != 200:
                self.check_error(json.loads(buffer)["error"], MAY_REFUSE)
                self.tell(f"was refused with {exchange.status}")
            else:
                self.expect(end is not None and "code" in end, "the body ended without an end")
                self.check_pieces(pieces, end=None)
                self.tell(f"got {len(pieces)} and then {end}")
        except LostError:
            self.check_lost(pace)
            self.check_pieces(pieces, end=None)
            self.tell(f"left a stream after {len(pieces)}")
        finally:
            exchange.wire.reset()

    def _take(
        self, chunk: dict[str, Any], pieces: list[str], end: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        if error := chunk.get("error"):
            self.check_error(error, set())
            return {"code": error["code"]}
        for choice in chunk["choices"]:
            if choice["text"]:
                pieces.append(choice["text"])
            if choice["finish_reason"]:
                end = {"finish_reason": choice["finish_reason"]}
        if usage := chunk.get("usage"):
            end = {**(end or {}), "usage": usage}
        return end


class Whole(Client):
    """POST /v1/completions, all at once."""

    async def act(self) -> None:
        pace = self.pace()
        exchange = self.exchange(pace)
        try:
            await exchange.ask("POST", "/v1/completions", json.dumps(self.asked).encode())
            told = await exchange.json()
        except LostError:
            self.check_lost(pace)
            self.tell("left before its answer")
            return
        finally:
            exchange.wire.reset()
        if exchange.status != 200:
            self.check_error(told["error"], MAY_REFUSE)
            self.tell(f"was refused with {exchange.status}")
            return
        expected, reason, tokens = self.world.engine.script.pieces(self.prompt, self.stop)
        choice = told["choices"][0]
        self.expect(choice["text"] == "".join(expected), f"got {choice['text']!r}")
        self.expect(choice["finish_reason"] == reason, f"finished as {choice['finish_reason']}")
        self.expect(told["usage"]["completion_tokens"] == tokens, f"counted {told['usage']}")
        self.tell("got a whole answer")


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


class Following(Client):
    """One who reads numbered events over as many connections as that takes."""

    events: dict[int, bytes]
    late = False
    """It read nothing for so long that it may have been forgotten."""

    async def follow(
        self, path: Callable[[int], tuple[str, dict[str, str]]], got: list[bytes]
    ) -> str:
        """Read on behind `got` until the end; how that came: end, gone, 404, refused."""
        for attempt in range(100):
            pace = self.pace() if attempt < 4 else Pace()
            exchange = None
            try:
                exchange = self.exchange(pace)
                target, headers = path(len(got))
                await exchange.ask("GET", target, **headers)
                ended = await self._read(exchange, got)
                if ended is not None:
                    return ended
            except LostError:
                if self.world.draining and not self.world.edge.open:
                    return "gone"
                self.check_lost(pace)
                self.late |= pace.stop_s > RESUME_WINDOW_S
                self.tell(f"lost its connection after {len(got)}")
            finally:
                if exchange is not None:
                    exchange.wire.reset()
            await trio.sleep(self.random.choice((1, 1, 1, 5)))
        raise AssertionError("never ended")

    async def _read(self, exchange: Exchange, got: list[bytes]) -> str | None:
        buffer = bytearray()
        while (event := await exchange.event(buffer)) is not None:
            event = event.replace(b"retry: 1000\n", b"")
            number = int(event.split(b"id: ")[1].split(b"\n")[0].split(b":")[-1])
            self.expect(number == len(got) + 1, f"event {number} after {len(got)}")
            known = self.events.setdefault(number, event)
            self.expect(known == event, f"event {number} is {event!r}, and was {known!r}")
            got.append(event)
            if not event.startswith(b"event: token\n"):
                self.expect(await exchange.next() is None, "something after the end")
                return "end"
        if exchange.status == 200:
            self.expect(False, "a stream ended without an end")
        if exchange.status in (404, 429):
            self.check_error(json.loads(buffer)["error"], MAY_REFUSE | {"job_not_found"})
        whole = bool(got) and not got[-1].startswith(b"event: token\n")
        return "end" if exchange.status == 204 and whole else str(exchange.status)

    @staticmethod
    def data(event: bytes) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(event.split(b"data: ", 1)[1])
        return told


class Submitting(Following):
    """A job: submitted once or several times, read by several, cancelled, deleted, or left alone."""

    async def act(self) -> None:
        random = self.random
        self.events = {}
        self.window = random.choice((None, None, 1, 4))
        self.acknowledges = random.random() < 0.85
        self.cancels = random.random() < 0.2
        self.deletes = random.random() < 0.2
        self.gone = False
        job_id = await self._submit()
        if job_id is None:
            return
        async with trio.open_nursery() as nursery:
            for number in range(random.choice((0, 1, 1, 2, 4))):
                nursery.start_soon(self._quietly, partial(self._read_job, job_id, number))
            if self.window is not None and self.acknowledges:
                nursery.start_soon(self._quietly, partial(self._acknowledge, job_id))
            if self.cancels or self.deletes:
                nursery.start_soon(self._quietly, partial(self._end, job_id))
        if not self.deletes:
            await self._check_end(job_id)

    async def _quietly(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except LostError:
            self.expect(self.world.draining, "lost a connection that it was reading")

    async def _submit(self) -> str | None:
        body = dict(self.asked) | ({"window": self.window} if self.window else {})
        headers = {"idempotency_key": self.name} if self.random.random() < 0.5 else {}
        answers: list[tuple[int, Any]] = []

        async def once() -> None:
            exchange = self.exchange()
            await exchange.ask("POST", "/v1/jobs", json.dumps(body).encode(), **headers)
            told = await exchange.json()
            answers.append((exchange.status, told))
            exchange.wire.reset()

        async with trio.open_nursery() as nursery:
            for _ in range(self.random.choice((1, 3)) if headers else 1):
                nursery.start_soon(self._quietly, once)
        for status, told in answers:
            if status not in (200, 202):
                self.check_error(told["error"], MAY_REFUSE)
        made = {told["job_id"] for status, told in answers if status in (200, 202)}
        self.expect(len(made) <= 1, f"one key made {len(made)} jobs")
        self.tell(f"submitted {[status for status, _ in answers]} {sorted(made)}")
        return made.pop() if made else None

    async def _read_job(self, job_id: str, number: int) -> None:
        await trio.sleep(self.random.choice((0, 0, 2, 40)))
        got: list[bytes] = []

        def path(after: int) -> tuple[str, dict[str, str]]:
            if self.random.random() < 0.5:
                return f"/v1/stream?job_id={job_id}", {"last_event_id": str(after)}
            return f"/v1/stream?job_id={job_id}&last_event_id={after}", {}

        ended = await self.follow(path, got)
        self.expect(ended in ("end", "gone") or (ended == "404" and self.gone), f"ended by {ended}")
        self.tell(f"reader {number} got {len(got)}, {ended}")

    async def _acknowledge(self, job_id: str) -> None:
        while (told := await self._ask("GET", f"/v1/jobs/{job_id}"))["status"] in (
            "queued",
            "running",
        ):
            ahead = told["last_event_id"] - told["acknowledged"]
            self.expect(ahead <= (self.window or 0) + (told["error"] is not None), "window passed")
            body = {"id": told["last_event_id"]}
            await self._ask("POST", f"/v1/jobs/{job_id}/ack", body)
            await trio.sleep(self.random.choice((0, 0.5, 3)))

    async def _end(self, job_id: str) -> None:
        await trio.sleep(self.random.choice((0, 0.05, 1, 50)))
        if self.cancels:
            self.tell("cancels its job")
            told = await self._ask("POST", f"/v1/jobs/{job_id}/cancel")
            self.expect(told["status"] not in ("queued", "running"), "not ended by cancel")
        if self.deletes:
            self.tell("deletes its job")
            self.gone = True
            await self._ask("DELETE", f"/v1/jobs/{job_id}")

    async def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        exchange = self.exchange()
        await exchange.ask(method, path, b"" if body is None else json.dumps(body).encode())
        told: dict[str, Any] = await exchange.json()
        exchange.wire.reset()
        if exchange.status == 404 and self.gone:
            return {"status": "gone"}
        self.expect(exchange.status == 200, f"{method} {path} gave {exchange.status} {told}")
        return told

    async def _check_end(self, job_id: str) -> None:
        wait_s = 1.0
        while (told := await self._ask("GET", f"/v1/jobs/{job_id}"))["status"] in (
            "queued",
            "running",
        ):
            await trio.sleep(wait_s)
            wait_s = min(2 * wait_s, 60)
        self.tell(f"its job {told['status']} after {told['last_event_id']}")
        allowed = {"cancelled"} if self.cancels else set()
        if self.window is not None and not self.acknowledges:
            allowed.add("deadline_exceeded")
        if told["error"] is not None:
            self.check_error(told["error"], allowed)
            return
        expected, reason, tokens = self.world.engine.script.pieces(self.prompt, self.stop)
        self.expect(told["text"] == "".join(expected), f"its text is {told['text']!r}")
        self.expect(told["last_event_id"] == len(expected) + 1, "its events are too few")
        self.expect(told["finish_reason"] == reason, f"finished as {told['finish_reason']}")
        self.expect(told["usage"]["completion_tokens"] == tokens, f"counted {told['usage']}")


class Asking(Following):
    """GET /chat/stream, as an EventSource."""

    async def act(self) -> None:
        self.events, self.stop = {}, ()
        content = self.asked["prompt"]
        fields = {name: self.asked[name] for name in ("prompt", "max_tokens", "seed")}
        self.prompt = self.world.prompt(self.asked, chat=content)
        got: list[bytes] = []

        def path(after: int) -> tuple[str, dict[str, str]]:
            if not after:
                self.events.clear()
            told = got[-1].split(b"id: ")[1].split(b"\n")[0].decode() if after else ""
            headers = {"last_event_id": told} if after else {}
            return f"/chat/stream?{urlencode(fields)}", headers

        ended = await self.follow(path, got)
        told = [self.data(event) for event in got]
        pieces = [each["text"] for each in told if "text" in each]
        end = told[-1] if ended == "end" else None
        if end is not None and end["finish_reason"] == "error":
            self.check_error(end["error"], set())
            end = None
        self.check_pieces(pieces, end=end)
        late = ended == "204" and self.late
        self.expect(ended in ("end", "gone", "429") or late, f"ended by {ended}")
        self.tell(f"asked and got {len(pieces)}, {ended}")


class Talking(Client):
    """A WebSocket: plain or resumable, with credits or without."""

    async def act(self) -> None:
        random = self.random
        self.resumable = random.random() < 0.6
        self.cancels = random.random() < 0.15
        self.credits = random.choice((None, None, 0, 3))
        self.late = False
        self.job_id: str | None = None
        self.heard: list[str] = []
        for attempt in range(100):
            pace = self.pace() if attempt < 4 else Pace()
            if await self._talk(pace):
                return
            if self.job_id is None or not self.resumable:
                if self.job_id is not None or (self.world.draining and not self.world.edge.open):
                    return
            await trio.sleep(random.choice((0, 1, 5)))
        self.expect(False, "never ended")

    async def _talk(self, pace: Pace) -> bool:
        """Whether there is nothing more to be said."""
        try:
            socket = Socket(self.world.connect(self.random), pace)
        except ConnectionRefusedError:
            return True
        spoke_rubbish = False
        try:
            await socket.open()
            if self.random.random() < 0.1:
                spoke_rubbish = True
                await socket.say(self.random.choice(("{", '{"type":"x"}', '{"type":"pull","n":0}')))
            await self._begin(socket)
            return await self._listen(socket)
        except LostError:
            if socket.code in (4400, 1013, 1001) or self.world.draining:
                self.tell(f"was closed with {socket.code}")
            else:
                self.expect(_leaves(pace) or spoke_rubbish, f"lost its socket, {socket.code}")
            self.late |= pace.stop_s > RESUME_WINDOW_S
            self.tell(f"lost its socket after {len(self.heard)}")
            return False
        finally:
            socket.wire.reset()

    async def _begin(self, socket: Socket) -> None:
        if self.job_id is None:
            await socket.tell("start", **self.asked, credits=self.credits, resumable=self.resumable)
        else:
            await socket.tell(
                "resume", job_id=self.job_id, after=len(self.heard), credits=self.credits
            )

    async def _listen(self, socket: Socket) -> bool:
        spent, asked_end = 0, False
        allowed = self.credits
        while True:
            if allowed is not None and spent >= allowed:
                await trio.sleep(self.random.choice((0, 0.1, 4)))
                more = self.random.randrange(1, 9)
                await socket.tell("pull", n=more)
                allowed += more
            if self.cancels and not asked_end and self.random.random() < 0.3:
                asked_end = True
                await socket.tell("cancel")
            message = await socket.hear()
            match message["type"]:
                case "started":
                    self.job_id = message["job_id"]
                    self.expect(message["after"] == len(self.heard), f"started at {message}")
                case "token":
                    spent += 1
                    self.expect(allowed is None or spent <= allowed, "more than was allowed")
                    self.heard.append(message["text"])
                    self.expect(message["seq"] == len(self.heard), f"{message} at the wrong place")
                case kind:
                    return self._check_end(kind, message, asked_end)

    def _check_end(self, kind: str, message: dict[str, Any], asked_end: bool) -> bool:
        self.tell(f"{kind} after {len(self.heard)}")
        if kind == "complete":
            self.expect(message["seq"] == len(self.heard) + 1, "a gap before the end")
            self.check_pieces(self.heard, end=message)
            return True
        self.check_pieces(self.heard, end=None)
        if kind == "cancelled":
            self.expect(asked_end or self.cancels, "cancelled by nobody")
        else:
            late = {"job_not_found"} if self.late else set()
            self.check_error(message["error"], MAY_REFUSE | late)
        return True


KINDS: tuple[type[Client], ...] = (
    Streaming,
    Streaming,
    Whole,
    Submitting,
    Submitting,
    Submitting,
    Asking,
    Asking,
    Talking,
    Talking,
    Rubbish,
)


def cast_of(world: World, random: Random) -> list[Callable[[], Awaitable[None]]]:
    """A few clients."""
    clients = []
    for number in range(random.randrange(2, 9)):
        kind = random.choice(KINDS)
        name = f"{kind.__name__.lower()}{number}"
        clients.append(kind(world, Random(f"{world.seed}:{name}"), name).run)
    return clients
