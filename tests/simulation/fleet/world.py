"""What clients see of a fleet: edges, any of which will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from penstock.requests import Prompt

from ..pipes import PipeStream
from ..world import CAPACITIES, World
from .book import Book
from .process import Process
from .redis import Redis


@dataclass(kw_only=True)
class FleetWorld(World):
    """Several servers on one store. `failed_on` is what engines of the dead failed on, too."""

    redis: Redis
    book: Book
    processes: dict[str, Process] = field(default_factory=dict)
    failed_on: list[set[tuple[tuple[int, ...], int]]] = field(default_factory=list)
    refuses: bool = False
    cuts: bool = False

    def connect(self, random: Random) -> PipeStream:
        edges = [each.edge for each in self.processes.values() if each.reachable and each.edge]
        if not edges:
            raise ConnectionRefusedError
        return random.choice(edges).connect(random.choice(CAPACITIES))

    def failed(self, prompt: Prompt) -> bool:
        return any((prompt.token_ids, prompt.seed) in failed for failed in self.failed_on)

    @property
    def may_refuse(self) -> bool:
        return self.refuses

    @property
    def may_cut(self) -> bool:
        return self.cuts
