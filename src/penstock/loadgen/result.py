"""All that one run of `penstock bench` found: what its JSON holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from penstock.loadgen.figures import Figures
from penstock.loadgen.isolation import Isolation
from penstock.loadgen.outcome import MEANT, Outcome
from penstock.loadgen.overhead import Overhead
from penstock.loadgen.wake import Wake

ROWS = 20_000
"""Requests that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A way in which requests failed, and how often."""

    ending: str
    detail: str
    requests: int


@dataclass(frozen=True, slots=True)
class Row:
    """One request; seconds on the clock of its part of the run."""

    number: int
    kind: str
    ending: str
    meant_s: float
    ttft_s: float | None
    ended_s: float
    pieces: int
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """`when` is in UTC. `asked` is the command line. Parts that were not measured are None."""

    version: str
    when: str
    url: str
    server: str
    model: str
    asked: list[str]
    overhead: Overhead
    figures: Figures | None = None
    isolation: Isolation | None = None
    departures: list[Wake] = field(default_factory=list)
    ttft_curve: list[float] = field(default_factory=list)
    itl_curve: list[float] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)


def complaints(outcomes: Sequence[Outcome]) -> list[Complaint]:
    """Failures by kind, the most frequent first. None is left out."""
    counted = Counter((it.ending, it.detail) for it in outcomes if it.ending not in MEANT)
    return [Complaint(ending, detail, n) for (ending, detail), n in counted.most_common()]


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    return [
        Row(
            number=it.number,
            kind=it.kind,
            ending=it.ending,
            meant_s=it.meant_s,
            ttft_s=it.first_s,
            ended_s=it.ended_s,
            pieces=len(it.times),
            tokens=it.tokens,
        )
        for it in outcomes[:ROWS]
    ]


def notes(outcomes: Sequence[Outcome], stopped_tokens: int, hidden: int | None) -> Iterator[str]:
    """What a reader of the figures must know to read them rightly."""
    done = [outcome for outcome in outcomes if outcome.ending == "done"]
    if done and not any(outcome.tokens for outcome in done):
        yield "The server does not count tokens (usage): pieces of text are taken for tokens."
    pieces = sum(len(outcome.times) for outcome in done)
    if hidden is not None and pieces:
        each = sum(outcome.bytes_read for outcome in done) / pieces
        yield hides(hidden, each, stopped_tokens)


def hides(hidden: int, bytes_each: float, stopped_tokens: int) -> str:
    """How much of a stopped reader's answer the kernel may have taken unseen."""
    whole = bytes_each * stopped_tokens
    told = (
        f"A stopped reader's answer has about {whole / 1000:,.0f} kB; on a server on this machine "
        f"the kernel takes {hidden / 1000:,.0f} kB of it ({hidden / bytes_each:,.0f} tokens)"
    )
    if hidden > whole / 2:
        return f"{told}: too much. Ask for longer ones with --stopped-tokens."
    return f"{told}."


def curve(values: Sequence[float], points: int = 200) -> list[float]:
    """`values` in order, thinned to `points` that are as far apart in rank."""
    ordered = sorted(values)
    if len(ordered) <= points:
        return ordered
    last = len(ordered) - 1
    return [ordered[round(index * last / (points - 1))] for index in range(points)]
