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
from .scripted import Script, ScriptedEngine


class BrokenPromiseError(AssertionError):
    """Something that must never happen happened."""


CAPACITIES = (64, 64, 300, 4096)
"""Of what lies between two ends of a connection, in bytes."""
PACES = ("fast", "slow", "stops", "leaves", "stops and leaves")


@dataclass(frozen=True, slots=True)
class Habits:
    """What is usual in a world.

    Within how many seconds clients arrive, how they read, what part of them does not come back,
    how long a turn of the model takes, and by what their longest pauses are multiplied.
    """

    arrivals_s: float
    paces: tuple[str, ...]
    impatience: float
    turns_s: tuple[float, ...]
    haste: float = 1.0

    @property
    def slow(self) -> bool:
        """Whether a generation may take longer than it may be without a reader."""
        return max(self.turns_s) >= 0.3


@dataclass(kw_only=True)
class World:
    """What clients know of each other and of whoever serves them."""

    seed: int
    script: Script
    tokenizer: Tokenizer
    settings: Settings
    habits: Habits
    lines: list[str] = field(default_factory=list)
    attempts: int = 1
    """How often one who is told that the server is away, or hears nothing, tries again."""

    def tell(self, who: str, what: str) -> None:
        self.lines.append(f"{trio.current_time():9.3f} {who:12} {what}")

    def expect(self, condition: bool, what: str) -> None:
        if not condition:
            raise BrokenPromiseError(what)

    def connect(self, random: Random) -> PipeStream:
        """The client's end. Raises `ConnectionRefusedError`."""
        raise NotImplementedError

    def failed(self, prompt: Prompt) -> bool:
        """Whether the model was made to fail on it."""
        raise NotImplementedError

    @property
    def may_refuse(self) -> bool:
        """Whether there is a reason to say `unavailable`."""
        raise NotImplementedError

    @property
    def may_cut(self) -> bool:
        """Whether there is a reason for connections to break."""
        raise NotImplementedError

    @property
    def over(self) -> bool:
        """Whether nobody will be there to connect to again."""
        return False

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


@dataclass(kw_only=True)
class ServerWorld(World):
    """One server."""

    app: App
    engine: ScriptedEngine
    edge: Edge
    draining: bool = False

    def connect(self, random: Random) -> PipeStream:
        return self.edge.connect(random.choice(CAPACITIES))

    def failed(self, prompt: Prompt) -> bool:
        return (prompt.token_ids, prompt.seed) in self.engine.failed

    @property
    def may_refuse(self) -> bool:
        return self.draining

    @property
    def may_cut(self) -> bool:
        return self.draining

    @property
    def over(self) -> bool:
        return self.draining and not self.edge.open
