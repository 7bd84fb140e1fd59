"""What will be asked, and when: made from a seed alone, so that two servers get the same load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias, get_args

from penstock.loadgen.lengths import Lengths, Uniform

Kind: TypeAlias = Literal["reader", "slow", "stopped", "leaving"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WORDS = """
    river house morning garden letter window table mountain story children market evening
    bridge water winter summer paper kitchen village music doctor teacher engine forest
    island captain harbour lantern orchard pocket quiet silver thunder valley whisper yellow
""".split()  # noqa: SIM905  # one word a line is no easier to read


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what it asks for and how its answer is read.

    `after`: pieces of the answer after which a stopped reader stops, or a leaving one leaves.
    """

    number: int
    kind: Kind
    prompt: str
    max_tokens: int
    after: int


@dataclass(frozen=True, slots=True)
class Mix:
    """Parts of the readers, from 0 to 1, that are not ordinary ones."""

    slow: float = 0.0
    stopped: float = 0.0
    leaving: float = 0.0

    @property
    def reader(self) -> float:
        return 1 - self.slow - self.stopped - self.leaving

    def draw(self, random: Random) -> Kind:
        weights = [max(0.0, getattr(self, kind)) for kind in KINDS]
        return random.choices(KINDS, weights)[0]

    def divide(self, streams: int) -> list[Kind]:
        """A kind for each of `streams` that are open all the time, as near to the mix as can be."""
        kinds: list[Kind] = []
        given: Counter[Kind] = Counter()
        for number in range(1, streams + 1):
            lacking = {kind: getattr(self, kind) * number - given[kind] for kind in KINDS}
            kinds.append(max(KINDS, key=lacking.__getitem__))
            given[kinds[-1]] += 1
        return kinds


@dataclass(frozen=True, slots=True)
class Shape:
    """Lengths of what is asked: of prompts in words, of answers in tokens.

    A stopped reader's answer has `stopped_tokens`: it must be longer than buffers can hide.
    """

    prompt: Lengths = field(default_factory=lambda: Uniform(32, 32))
    output: Lengths = field(default_factory=lambda: Uniform(128, 128))
    stopped_tokens: int = 900
    leaves_after: Lengths = field(default_factory=lambda: Uniform(1, 32))


class Plan:
    """The requests of one run. Number `n` is the same whatever was asked before it."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self._seed = seed
        self._shape = shape
        self._number = 0

    def arrivals(self, rate: float) -> Iterator[float]:
        """Seconds from the start to each request: a Poisson process of `rate` a second."""
        random = Random(f"arrivals {self._seed}")
        at_s = 0.0
        while True:
            at_s += random.expovariate(rate)
            yield at_s

    def next(self, kind: Kind | Mix) -> Ask:
        """The next request, of a kind or of one that is drawn."""
        number, self._number = self._number, self._number + 1
        random = Random(f"{number} of {self._seed}")
        drawn = kind.draw(random) if isinstance(kind, Mix) else kind
        shape = self._shape
        words, tokens = shape.prompt.draw(random), shape.output.draw(random)
        return Ask(
            number=number,
            kind=drawn,
            prompt=make_prompt(random, words),
            max_tokens=shape.stopped_tokens if drawn == "stopped" else tokens,
            after=shape.leaves_after.draw(random) if drawn == "leaving" else 1,
        )


def make_prompt(random: Random, words: int) -> str:
    """`words` words. No two prompts begin alike, so a cache of prefixes gives nobody an edge."""
    return " ".join(random.choices(WORDS, k=words))
