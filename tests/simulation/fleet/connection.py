"""A client of the stand-in for Redis, with what a network does to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

import glide
import outcome
import trio
from glide import ClosingError, GlideError, Script, StreamReadOptions

from penstock.jobs.redis.configuration import REQUEST_S

from .machine import Machine
from .redis import Redis

INFO = b"redis_version:8.0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
LATENCIES_S = (0.0, 0.0, 0.001, 0.005)
STALL_S = (1.0, 2.5)
LEAST_S = 1e-6
"""Between two that arrive on one connection, in their order."""

Act: TypeAlias = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Weather:
    """How often a command meets its connection's end, or a network that stands still."""

    breaks: float = 0
    stalls: float = 0


@dataclass(slots=True, eq=False)
class Request:
    """One command on its way. Where `survives`, it is carried out though its connection is gone."""

    act: Act
    survives: bool
    answer: outcome.Outcome[Any] | None = None
    known: trio.Event = field(default_factory=trio.Event)

    def settle(self, answer: outcome.Outcome[Any]) -> None:
        if self.answer is None:
            self.answer = answer
            self.known.set()


class Line:
    """One TCP connection: first in, first out, until it breaks."""

    def __init__(self) -> None:
        self.broken = False
        self.pending: dict[Request, None] = {}
        self._there_s = 0.0
        self._back_s = 0.0

    def arrival(self, latency_s: float) -> float:
        self._there_s = max(trio.current_time() + latency_s, self._there_s + LEAST_S)
        return self._there_s

    def return_(self, latency_s: float) -> float:
        self._back_s = max(trio.current_time() + latency_s, self._back_s + LEAST_S)
        return self._back_s

    def break_(self) -> None:
        self.broken = True
        for request in self.pending:
            request.settle(outcome.Error(glide.ConnectionError("connection reset by peer")))


class Connection:
    """See `Client`. It connects again by itself."""

    def __init__(self, redis: Redis, machine: Machine, weather: Weather) -> None:
        self.line = Line()
        self._redis = redis
        self._machine = machine
        self._weather = weather
        self._random = Random(machine.random.random())
        self._stirs = -1
        """How much had happened when there was nothing in a stream."""

    async def invoke_script(
        self, script: Script, keys: list[str | bytes], args: list[str | bytes]
    ) -> Any:  # noqa: ANN401  # as the script
        async def act() -> Any:  # noqa: ANN401
            return self._redis.run(script.get_hash(), keys, args)

        return await self._ask(act)

    async def custom_command(self, command_args: list[str | bytes]) -> Any:  # noqa: ANN401
        assert command_args[0] == "XRANGE"

        async def act() -> Any:  # noqa: ANN401
            return _entries(self._redis.ask(*command_args))

        return await self._ask(act)

    async def xread(
        self, keys_and_ids: Mapping[str | bytes, str | bytes], options: StreamReadOptions
    ) -> Any:  # noqa: ANN401
        after = tuple(keys_and_ids.values())
        block_s = (options.block_ms or 0) / 1000

        async def act() -> Any:  # noqa: ANN401
            with trio.move_on_after(block_s):
                while True:
                    if self._stirs != self._redis.stirs:
                        got = self._redis.ask("XREAD", "STREAMS", *keys_and_ids, *after)
                        if got:
                            return {key: _entries(entries) for key, entries in got}
                        self._stirs = self._redis.stirs
                    await self._redis.stirred.park()

        return await self._ask(act, block_s=block_s)

    async def time(self) -> list[bytes]:
        async def act() -> Any:  # noqa: ANN401
            return self._redis.ask("TIME")

        told: list[bytes] = await self._ask(act)
        return told

    async def info(self) -> bytes:
        return INFO

    async def close(self) -> None:
        self._machine.lines.pop(self.line, None)

    async def open(self) -> None:
        """Raises `GlideError` where nobody answers."""
        await self._machine.awake()
        await trio.sleep(self._random.choice(LATENCIES_S))
        if self._machine.dead or not self._redis.up:
            raise ClosingError("connection refused")
        self._machine.lines.pop(self.line, None)
        self.line = Line()
        self._machine.lines[self.line] = None

    async def _ask(self, act: Act, *, block_s: float = 0) -> Any:  # noqa: ANN401
        await self._machine.awake()
        if self.line.broken:
            await self._open_again()
        began_s, line = trio.current_time(), self.line
        request = Request(act, survives=self._random.random() < 0.5)
        line.pending[request] = None
        self._machine.network.start_soon(self._carry, line, request)
        with trio.move_on_at(began_s + block_s + REQUEST_S):
            await request.known.wait()
        await self._machine.awake()
        line.pending.pop(request, None)
        late = trio.current_time() > began_s + block_s + REQUEST_S
        if request.answer is None or (late and self._random.random() < 0.5):
            request.settle(outcome.Error(glide.TimeoutError("timed out")))
            raise glide.TimeoutError("timed out")
        return request.answer.unwrap()

    async def _open_again(self) -> None:
        try:
            await self.open()
        except GlideError:
            if not self._machine.dead:
                await trio.sleep(self._random.choice((0, 0.05, REQUEST_S)))
                await self._machine.awake()
            raise glide.ConnectionError("connection refused") from None

    async def _carry(self, line: Line, request: Request) -> None:
        """There and back. Where the connection breaks on the way, nobody knows how far it was."""
        random, weather = self._random, self._weather
        latency_s = random.choice(LATENCIES_S)
        if random.random() < weather.stalls:
            latency_s = random.uniform(*STALL_S)
        breaks = random.random() < weather.breaks
        await trio.sleep_until(line.arrival(latency_s))
        if breaks and random.random() < 0.5:
            line.break_()
        if not self._redis.up or (line.broken and not request.survives):
            return
        answer = await outcome.acapture(request.act)
        if breaks:
            line.break_()
        await trio.sleep_until(line.return_(random.choice(LATENCIES_S)))
        if not line.broken:
            request.settle(_expected(answer))


def _expected(answer: outcome.Outcome[Any]) -> outcome.Outcome[Any]:
    """Nothing but what a server says. Raises what is wrong with the stand-in itself."""
    if isinstance(answer, outcome.Error) and not isinstance(answer.error, GlideError):
        answer.unwrap()
    return answer


def _entries(told: Any) -> dict[bytes, list[list[bytes]]]:  # noqa: ANN401
    return {
        entry: [[fields[at], fields[at + 1]] for at in range(0, len(fields), 2)]
        for entry, fields in told
    }
