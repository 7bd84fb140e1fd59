"""Clients: what is common to all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import trio

from penstock.requests import Prompt

from .scripted import TEXTS
from .wire import NO_HEADERS, Exchange, LostError, Pace
from .world import World

WORDS = ("once", "upon", "a", "time", "there", "was", "fog")
MAY_REFUSE = {"overloaded"}
RESUME_WINDOW_S = 30.0


class Client:
    """One client: its draws are its own, so that others do not change what it does."""

    _heard_s = 0.0
    _away_s = 0.0

    def __init__(self, world: World, random: Random, name: str) -> None:
        self.world = world
        self.random = random
        self.name = name
        words = " ".join(random.choices(WORDS, k=random.randrange(1, 12)))
        self.asked: dict[str, Any] = {
            "prompt": f"{name} {words}",
            "max_tokens": random.randrange(1, random.choice((4, 24, 60, 60))),
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
        """Fast, slow, for a while not at all, or gone after some bytes, as is usual here."""
        random = self.random
        match random.choice(self.world.habits.paces):
            case "slow":
                return Pace(most=random.choice((40, 90, 300)), wait_s=random.uniform(0, 0.3))
            case "stops":
                stop_s = self.world.habits.haste * random.choice((3.0, 12.0, 60.0))
                return Pace(stop_at=random.randrange(1500), stop_s=stop_s)
            case "leaves":
                return Pace(cut_at=random.randrange(2500))
            case "stops and leaves":
                last = random.randrange(1000)
                return Pace(stop_at=last, stop_s=random.choice((1.0, 10.0)), cut_at=last)
            case _:
                return Pace()

    def hears(self) -> None:
        """Something has come, so that its reader is there, or was a moment ago."""
        now_s = trio.current_time()
        self._away_s = max(self._away_s, now_s - self._heard_s)
        self._heard_s = now_s

    @property
    def late(self) -> bool:
        """Whether it heard nothing for so long that it may have been forgotten."""
        away_s = max(self._away_s, trio.current_time() - self._heard_s)
        return away_s > RESUME_WINDOW_S

    @property
    def unread(self) -> bool:
        """Whether its job may have been cancelled for want of a reader."""
        return self.late and self.world.habits.slow

    def exchange(self, pace: Pace | None = None) -> Exchange:
        try:
            return Exchange(self.world.connect(self.random), pace or Pace())
        except ConnectionRefusedError:
            raise LostError from None

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        again: bool = True,
    ) -> tuple[int, Any]:
        """The status and the answer. Raises `LostError`.

        It may be asked `again`, as often as is usual here, where it was not answered.
        """
        for left in reversed(range(self.world.attempts if again else 1)):
            exchange = None
            try:
                exchange = self.exchange()
                await exchange.ask(method, path, body, headers)
                told = await exchange.json()
                if not left or not is_away(exchange.status, told):
                    return exchange.status, told
                self.check_error(told["error"], MAY_REFUSE)
            except LostError:
                self.expect(self.world.may_cut, "lost a connection that it was reading")
                if not left:
                    raise
            finally:
                if exchange is not None:
                    exchange.wire.reset()
            await trio.sleep(1)
        raise AssertionError("never")

    def check_lost(self, pace: Pace) -> None:
        """A connection breaks only for those who do not read, and when the server ends."""
        self.expect(self.world.may_cut or leaves(pace), "lost a connection that it was reading")

    def check_error(self, error: dict[str, Any], allowed: set[str]) -> None:
        code = error["code"]
        known = code in allowed or (code == "unavailable" and self.world.may_refuse)
        planted = code == "internal_error" and self.world.failed(self.prompt)
        self.expect(known or planted, f"got {error}")

    def check_pieces(
        self, pieces: list[str], *, end: dict[str, Any] | None, prompt: Prompt | None = None
    ) -> None:
        """What came is how the answer begins, and all of it where `end` says that it is whole."""
        expected, reason, tokens = self.world.script.pieces(prompt or self.prompt, self.stop)
        self.expect(pieces == expected[: len(pieces)], f"got {pieces} instead of {expected}")
        if end is not None:
            self.expect(pieces == expected, f"a whole answer is {expected}, this is {pieces}")
            self.expect(end["finish_reason"] == reason, f"finished as {end['finish_reason']}")
            self.expect(end["usage"]["completion_tokens"] == tokens, f"counted {end['usage']}")

    async def run(self) -> None:
        await trio.sleep(self.random.uniform(0, self.world.habits.arrivals_s))
        self.tell("arrives")
        self._heard_s = trio.current_time()
        try:
            await self.act()
        except LostError:
            self.expect(self.world.may_cut, "lost a connection that it was reading")
            self.tell("found the server gone")
        self.tell("is done")

    async def act(self) -> None:
        raise NotImplementedError


def is_away(status: int, told: Any) -> bool:  # noqa: ANN401  # whatever the server said
    """Whether it is to be asked again later, or elsewhere."""
    return status == 429 and told["error"]["code"] == "unavailable"


def leaves(pace: Pace) -> bool:
    return pace.cut_at < float("inf") or pace.stop_at < float("inf")
