"""What the clients of one world share."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio

from penstock.engine.tokenizer import Tokenizer
from penstock.requests import Message, Prompt, Sampling
from penstock.settings import Settings
from penstock.web.app import App

from .edge import Edge
from .pipes import PipeStream
from .scripted import ScriptedEngine


class BrokenPromiseError(AssertionError):
    """Something that must never happen happened."""


PACES = ("fast", "slow", "stops", "leaves", "stops and leaves")


@dataclass(frozen=True, slots=True)
class Habits:
    """What is usual in a world.

    Within how many seconds clients arrive, how they read, what part of them does not come back, and
    how long a turn of the model takes.
    """

    arrivals_s: float
    paces: tuple[str, ...]
    impatience: float
    turns_s: tuple[float, ...]

    @property
    def slow(self) -> bool:
        """Whether a generation may take longer than it may be without a reader."""
        return max(self.turns_s) >= 0.3


@dataclass
class World:
    """What clients know of each other and of the server."""

    seed: int
    app: App
    engine: ScriptedEngine
    edge: Edge
    tokenizer: Tokenizer
    settings: Settings
    habits: Habits
    lines: list[str] = field(default_factory=list)
    draining: bool = False

    def tell(self, who: str, what: str) -> None:
        self.lines.append(f"{trio.current_time():9.3f} {who:12} {what}")

    def connect(self, random: Random) -> PipeStream:
        return self.edge.connect(random.choice((64, 64, 300, 4096)))

    def expect(self, condition: bool, what: str) -> None:
        if not condition:
            raise BrokenPromiseError(what)

    def prompt(self, asked: dict[str, Any], *, chat: str | None = None) -> Prompt:
        """What the engine gets for a request with these fields."""
        if chat is None:
            ids = self.tokenizer.encode(asked["prompt"])
        else:
            ids = self.tokenizer.encode_chat([Message("user", chat)])
        return Prompt(
            token_ids=tuple(ids),
            max_tokens=asked["max_tokens"],
            sampling=Sampling(seed=asked["seed"]),
            seed=asked["seed"],
            ignore_eos=True,
        )
