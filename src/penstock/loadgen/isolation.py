"""What readers get by themselves, and among neighbours that slow down, stop or leave."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.loadgen.outcome import Outcome
from penstock.loadgen.plan import Kind, Mix
from penstock.loadgen.statistics import Comparison, Summary, compare, gaps, summarise

ALL = Mix(stopped=1)


@dataclass(frozen=True, slots=True)
class Trial:
    """`pairs` of phases, alone and among `neighbours`. A phase settles, then it is measured."""

    readers: int
    neighbours: tuple[Kind, ...]
    pairs: int = 3
    settle_s: float = 2.0
    phase_s: float = 5.0

    @property
    def duration_s(self) -> float:
        return 2 * self.pairs * (self.settle_s + self.phase_s) + self.settle_s


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch that was measured, on the clock of the run."""

    among: bool
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Isolation:
    """What the ordinary readers got. `ratio`: their tokens a second among neighbours over alone,
    in neighbouring phases."""

    readers: int
    neighbours: dict[str, int]
    alone_tokens_s: list[float]
    among_tokens_s: list[float]
    ratio: Comparison
    alone_ttft_s: Summary
    among_ttft_s: Summary
    alone_itl_s: Summary
    among_itl_s: Summary


def neighbours_of(mix: Mix, count: int) -> tuple[Kind, ...]:
    """`count` neighbours in the proportions of `mix`; where it names none, all of them stop."""
    total = 1 - mix.reader
    parts = Mix(mix.slow / total, mix.stopped / total, mix.leaving / total) if total > 0 else ALL
    return tuple(parts.divide(count))


def account(trial: Trial, phases: list[Phase], outcomes: list[Outcome]) -> Isolation:
    """What the readers among `outcomes` got in each phase."""
    readers = [outcome for outcome in outcomes if outcome.kind == "reader"]
    alone = [phase for phase in phases if not phase.among]
    among = [phase for phase in phases if phase.among]
    alone_tokens_s = [_tokens_s(phase, readers) for phase in alone]
    among_tokens_s = [_tokens_s(phase, readers) for phase in among]
    return Isolation(
        readers=trial.readers,
        neighbours={kind: trial.neighbours.count(kind) for kind in sorted(set(trial.neighbours))},
        alone_tokens_s=alone_tokens_s,
        among_tokens_s=among_tokens_s,
        ratio=compare(alone_tokens_s, among_tokens_s),
        alone_ttft_s=_first_tokens(alone, readers),
        among_ttft_s=_first_tokens(among, readers),
        alone_itl_s=_between(alone, readers),
        among_itl_s=_between(among, readers),
    )


def _tokens_s(phase: Phase, readers: list[Outcome]) -> float:
    got = sum(outcome.tokens_between(phase.start_s, phase.end_s) for outcome in readers)
    return got / (phase.end_s - phase.start_s)


def _first_tokens(phases: list[Phase], readers: list[Outcome]) -> Summary:
    """Of requests that began in these phases; those that had none by the end are censored."""
    begun = [
        outcome
        for outcome in readers
        if any(phase.start_s <= outcome.meant_s < phase.end_s for phase in phases)
    ]
    firsts = [outcome.first_s for outcome in begun]
    known = [first for first in firsts if first is not None]
    return summarise(known, censored=len(firsts) - len(known))


def _between(phases: list[Phase], readers: list[Outcome]) -> Summary:
    """Of pieces that were read in these phases, those that a phase's end cut off left out."""
    found: list[float] = []
    for outcome in readers:
        ends = zip(outcome.times[1:], gaps(outcome.times), strict=True)
        found += [
            gap
            for at_s, gap in ends
            if any(phase.start_s <= at_s < phase.end_s for phase in phases)
        ]
    return summarise(found)
