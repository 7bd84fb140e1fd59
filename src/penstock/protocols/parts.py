"""The parts that an answer's text falls into."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Content:
    """What the answer says."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call begins. `index` counts the calls of one answer from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A piece of a call's arguments, which joined are JSON."""

    index: int
    text: str


Part: TypeAlias = Content | Reasoning | Call | Arguments


def overlap(text: str, marker: str) -> int:
    """Length of the longest end of `text` that begins `marker` and is not all of it."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0


def call_id(seed: str, index: int) -> str:
    """Nine letters and digits, the only ids that Mistral's template takes back.

    `seed` is what no other answer has, `index` what no other call of it has.
    """
    return sha256(f"{seed}:{index}".encode()).hexdigest()[:9]
