"""How long prompts and answers are: distributions, as they are written on the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

FORMS = "N, uniform:LOW,HIGH or lognormal:MEDIAN,SIGMA,HIGH"


class LengthsError(ValueError):
    """A text that names no distribution of lengths."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length from `low` to `high` is as likely as any other."""

    low: int
    high: int

    def draw(self, random: Random) -> int:
        return random.randint(self.low, self.high)

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"uniform:{self.low},{self.high}"


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Many short ones and a few long ones, as in the traces of real services; `high` is kept."""

    median: float
    sigma: float
    high: int

    def draw(self, random: Random) -> int:
        drawn = random.lognormvariate(math.log(self.median), self.sigma)
        return max(1, min(self.high, round(drawn)))

    def __str__(self) -> str:
        return f"lognormal:{self.median:g},{self.sigma:g},{self.high}"


Lengths: TypeAlias = Uniform | Lognormal


def parse_lengths(text: str) -> Lengths:
    """Lengths in one of `FORMS`. Raises `LengthsError`."""
    kind, _, rest = text.rpartition(":")
    try:
        return _parse(kind, [float(part) for part in rest.split(",")])
    except ValueError:
        raise LengthsError(f"{text!r} is not {FORMS}") from None


def _parse(kind: str, numbers: list[float]) -> Lengths:
    match kind, numbers:
        case "", [length] if _is_length(length):
            return Uniform(int(length), int(length))
        case "uniform", [low, high] if _is_length(low) and _is_length(high) and low <= high:
            return Uniform(int(low), int(high))
        case "lognormal", [median, sigma, high] if 1 <= median <= high and 0 <= sigma <= 5:
            if _is_length(high):
                return Lognormal(median, sigma, int(high))
    raise ValueError


def _is_length(number: float) -> bool:
    return 1 <= number <= 1 << 20 and number == int(number)
