"""Who is in a world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeAlias

from .client import Client
from .completions import Streaming, Whole
from .following import Asking
from .rubbish import Rubbish
from .submitting import Submitting
from .talking import Talking
from .world import World

Play: TypeAlias = Callable[[], Awaitable[None]]
KINDS: tuple[type[Client], ...] = (Streaming, Whole, Submitting, Asking, Talking, Rubbish)


def cast_of(world: World, random: Random) -> list[Play]:
    """A few clients, of a few kinds only: what is rare among all is common in some worlds."""
    kinds = random.sample(KINDS, random.randrange(1, len(KINDS)))
    clients: list[Play] = []
    for number in range(random.randrange(2, 9)):
        kind = random.choice(kinds)
        name = f"{kind.__name__.lower()}{number}"
        clients.append(kind(world, Random(f"{world.seed}:{name}"), name).run)
    return clients
