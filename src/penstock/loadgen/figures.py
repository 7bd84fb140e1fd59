"""The figures of one load: what was asked in the measured stretch, and what came of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.loadgen.outcome import MEANT, Outcome
from penstock.loadgen.statistics import Summary, gaps, summarise

BINS = 120


@dataclass(frozen=True, slots=True)
class Slo:
    """What a reader must get for its request to count as good: seconds to the first piece of text,
    and from there on seconds a token, on the mean over its answer."""

    ttft_s: float = 1.0
    tpot_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests of ordinary readers that kept `slo`; `share` is of all that were asked for."""

    slo: Slo
    requests: int
    requests_s: float
    tokens_s: float
    share: float | None


@dataclass(frozen=True, slots=True)
class Bin:
    """A moment of the run: tokens a second that were read, and streams open in its middle."""

    at_s: float
    tokens_s: float
    open: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Latencies are of ordinary readers, from the moment their request should have begun.

    `endings`: for each kind of reader, how many requests ended in which way. `tokens_s` counts what
    was read in the measured stretch, by whom and of whichever request it was. `pieces_a_token` is
    not 1 where a server sends several tokens at once; then `itl_s` is between pieces.
    """

    requests: int
    endings: dict[str, dict[str, int]]
    failed: int
    offered_s: float
    tokens_s: float
    pieces_a_token: float | None
    prompt_tokens: Summary
    output_tokens: Summary
    connect_s: Summary
    ttft_s: Summary
    itl_s: Summary
    tpot_s: Summary
    whole_s: Summary
    goodput: Goodput
    timeline: list[Bin]


def figures(outcomes: Iterable[Outcome], start_s: float, end_s: float, slo: Slo) -> Figures:
    """Figures of the requests that were meant to begin from `start_s` on and before `end_s`."""
    everything = list(outcomes)
    asked = [outcome for outcome in everything if start_s <= outcome.meant_s < end_s]
    readers = [outcome for outcome in asked if outcome.kind == "reader"]
    done = [outcome for outcome in readers if outcome.ending == "done"]
    return Figures(
        requests=len(asked),
        endings=_endings(asked),
        failed=sum(outcome.ending not in MEANT for outcome in asked),
        offered_s=len(asked) / (end_s - start_s),
        tokens_s=sum(it.tokens_between(start_s, end_s) for it in everything) / (end_s - start_s),
        pieces_a_token=_pieces_a_token(done),
        prompt_tokens=summarise(it.prompt_tokens for it in done if it.prompt_tokens),
        output_tokens=summarise(tokens_of(it) for it in done),
        connect_s=summarise(it.connected_s - it.begun_s for it in readers if it.connected_s),
        ttft_s=first_pieces(readers),
        itl_s=summarise(gap for it in readers for gap in gaps(it.times)),
        tpot_s=summarise(tpot for it in readers if (tpot := tpot_of(it)) is not None),
        whole_s=_whole(readers),
        goodput=_goodput(readers, end_s - start_s, slo),
        timeline=_timeline(everything, end_s),
    )


def first_pieces(readers: Sequence[Outcome]) -> Summary:
    """Times to the first piece. Whoever still waited when given up on waited longer than all."""
    waiting = sum(not it.times and it.ending in ("timeout", "unfinished") for it in readers)
    return summarise((it.first_s for it in readers if it.first_s is not None), censored=waiting)


def tokens_of(outcome: Outcome) -> float:
    """Tokens of an answer, as its server counts them, else its pieces."""
    return outcome.tokens_each * len(outcome.times)


def tpot_of(outcome: Outcome) -> float | None:
    """Seconds a token after the first; None of an answer of less than two pieces."""
    if len(outcome.times) < 2:
        return None
    return (outcome.times[-1] - outcome.times[0]) / (len(outcome.times) - 1) / outcome.tokens_each


def is_good(outcome: Outcome, slo: Slo) -> bool:
    first_s, tpot_s = outcome.first_s, tpot_of(outcome)
    if outcome.ending != "done" or first_s is None:
        return False
    return first_s <= slo.ttft_s and (tpot_s is None or tpot_s <= slo.tpot_s)


def _endings(asked: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    kinds = sorted({outcome.kind for outcome in asked})
    return {
        kind: dict(Counter(outcome.ending for outcome in asked if outcome.kind == kind))
        for kind in kinds
    }


def _pieces_a_token(done: Sequence[Outcome]) -> float | None:
    counted = [outcome for outcome in done if outcome.tokens]
    tokens = sum(outcome.tokens or 0 for outcome in counted)
    return sum(len(outcome.times) for outcome in counted) / tokens if tokens else None


def _whole(readers: Sequence[Outcome]) -> Summary:
    done = [outcome for outcome in readers if outcome.ending == "done"]
    open_ = sum(outcome.ending in ("timeout", "unfinished") for outcome in readers)
    return summarise((it.ended_s - it.meant_s for it in done), censored=open_)


def _goodput(readers: Sequence[Outcome], duration_s: float, slo: Slo) -> Goodput:
    good = [outcome for outcome in readers if is_good(outcome, slo)]
    return Goodput(
        slo=slo,
        requests=len(good),
        requests_s=len(good) / duration_s,
        tokens_s=sum(map(tokens_of, good)) / duration_s,
        share=len(good) / len(readers) if readers else None,
    )


def _timeline(outcomes: Sequence[Outcome], end_s: float) -> list[Bin]:
    width_s = max(0.5, end_s / BINS)
    tokens: defaultdict[int, float] = defaultdict(float)
    open_: Counter[int] = Counter()
    for outcome in outcomes:
        weight = outcome.tokens_each
        for at_s in outcome.times:
            tokens[int(at_s / width_s)] += weight
        open_.update(_bins_between(outcome, width_s))
    return [
        Bin((number + 0.5) * width_s, tokens[number] / width_s, open_[number])
        for number in range(math.ceil(end_s / width_s))
    ]


def _bins_between(outcome: Outcome, width_s: float) -> range:
    """Bins in whose middle the request was open."""
    first, last = (math.ceil(at / width_s - 0.5) for at in (outcome.begun_s, outcome.ended_s))
    return range(max(0, first), max(0, last))
