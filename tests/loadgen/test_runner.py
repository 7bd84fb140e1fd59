"""Whole loads on virtual time, where every figure is known beforehand."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from penstock.loadgen.figures import Figures, Slo, figures
from penstock.loadgen.isolation import Isolation, Trial, account
from penstock.loadgen.phases import run_phases
from penstock.loadgen.plan import Mix, Plan, Shape
from penstock.loadgen.reader import Habits
from penstock.loadgen.runner import Load, Runner, Tally

from .servers import Line, MemoryServer, Serve, paced

SLO = Slo(ttft_s=1.0, tpot_s=0.2)


async def loaded(serve: Serve, load: Load, habits: Habits | None = None) -> tuple[Figures, Tally]:
    tally = Tally()
    async with trio.open_nursery() as nursery:
        readers = MemoryServer(nursery, serve).readers(habits)
        await Runner(readers, Plan(0, Shape()), tally).run(load)
        nursery.cancel_scope.cancel()
    return figures(tally.outcomes, load.warmup_s, load.end_s, SLO), tally


async def test_a_closed_loop_keeps_its_streams_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """3 streams, each of 10 tokens in 1 s."""
    load = Load(duration_s=10, warmup_s=1, concurrency=3)
    found, _ = await loaded(paced(10, first_s=0.1, gap_s=0.1), load)
    assert found.tokens_s == pytest.approx(30, rel=0.05)
    assert found.requests == pytest.approx(30, abs=3)
    assert found.ttft_s.p99 == pytest.approx(0.1)
    assert found.itl_s.p50 == pytest.approx(0.1)
    assert found.itl_s.highest == pytest.approx(0.1)
    assert found.tpot_s.p50 == pytest.approx(0.1)
    assert found.goodput.share == 1
    assert {it.open for it in found.timeline} == {3}


async def test_an_open_loop_does_not_wait_for_a_server_that_hangs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The server is dead from second 10 to 20. A load that waited with it would see one slow
    request; this one sees all of those that people would have made meanwhile."""

    async def serve(line: Line) -> None:
        if 10 <= trio.current_time() - begun_s < 20:
            await trio.sleep_until(begun_s + 20)
        await paced(1, first_s=0.01, gap_s=0)(line)

    begun_s = trio.current_time()
    found, _ = await loaded(serve, Load(duration_s=40, rate=10))
    assert found.requests == pytest.approx(400, rel=0.15)
    assert found.ttft_s.p50 == pytest.approx(0.01)
    assert found.ttft_s.p90 is not None
    assert 5 < found.ttft_s.p90 < 8, "a quarter of all waits 5 s on the mean"
    assert found.ttft_s.highest == pytest.approx(10, abs=0.3)
    assert found.goodput.share == pytest.approx(0.775, abs=0.04)


async def test_requests_that_never_get_a_token_are_in_the_percentiles(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def serve(line: Line) -> None:
        if line.number % 2:
            await trio.sleep_forever()
        await paced(1, first_s=0.01, gap_s=0)(line)

    load = Load(duration_s=20, rate=5, drain_s=5)
    found, tally = await loaded(serve, load)
    assert found.ttft_s.n == found.requests == len(tally.outcomes)
    assert found.ttft_s.p90 is None
    assert found.endings["reader"]["unfinished"] == found.failed == found.ttft_s.censored
    assert found.goodput.share == pytest.approx(0.5, abs=0.01)


async def test_a_failure_is_counted_and_not_repeated_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def serve(line: Line) -> None:
        await line.say(b"HTTP/1.1 429 No\r\ncontent-length: 4\r\n\r\nfull")

    found, tally = await loaded(serve, Load(duration_s=5, concurrency=2))
    assert list(found.endings["reader"]) == ["refused"]
    assert found.failed == found.requests == pytest.approx(100, abs=2)
    assert found.goodput.share == 0
    assert tally.in_flight == 0


async def test_what_began_before_or_ends_behind_the_measured_stretch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One stream of 4 s answers: begun at 0, 4, 8; measured from 2 to 10."""
    load = Load(duration_s=8, warmup_s=2, concurrency=1)
    found, tally = await loaded(paced(4, first_s=1, gap_s=1), load)
    assert [outcome.meant_s for outcome in tally.outcomes] == pytest.approx([0, 4, 8])
    assert found.requests == 2
    assert found.whole_s.n == 2
    assert found.tokens_s == pytest.approx(1)


async def test_a_mix_is_held_in_a_closed_loop(autojump_clock: trio.testing.MockClock) -> None:
    load = Load(duration_s=9, concurrency=4, mix=Mix(stopped=0.25, leaving=0.25))
    found, _ = await loaded(paced(100, first_s=0.1, gap_s=0.1), load, Habits(hold_s=3))
    assert found.endings["stopped"] == {"held": 3}
    assert set(found.endings["leaving"]) == {"left"}
    assert set(found.endings["reader"]) <= {"done"}
    assert found.failed == 0


async def isolated(serve: Serve, trial: Trial) -> Isolation:
    tally = Tally()
    async with trio.open_nursery() as nursery:
        readers = MemoryServer(nursery, serve).readers(Habits(hold_s=100))
        phases = await run_phases(trial, readers, Runner(readers, Plan(0, Shape()), tally))
        nursery.cancel_scope.cancel()
    return account(trial, phases, tally.outcomes)


async def test_neighbours_that_change_nothing_have_a_ratio_of_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    trial = Trial(readers=2, neighbours=("stopped",) * 3, pairs=2)
    found = await isolated(paced(10, first_s=0.1, gap_s=0.1), trial)
    assert found.ratio.pairs == 2
    assert found.ratio.median == pytest.approx(1, abs=0.05)
    assert found.alone_tokens_s[0] == pytest.approx(20, rel=0.05)
    assert found.neighbours == {"stopped": 3}
    assert found.among_ttft_s.censored == 0


async def test_neighbours_that_halve_the_pace_have_a_ratio_of_a_half(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that gives each token after 0.1 s, and 0.2 s while anybody is stopped."""
    stopped = 0

    async def serve(line: Line) -> None:
        nonlocal stopped
        is_stopped = line.body["max_tokens"] == Shape().stopped_tokens
        stopped += is_stopped
        try:
            if is_stopped:
                await paced(900, first_s=0.1, gap_s=0.1)(line)
            for _ in range(10):
                await paced(1, first_s=0.2 if stopped else 0.1, gap_s=0)(line)
        finally:
            stopped -= is_stopped

    found = await isolated(serve, Trial(readers=1, neighbours=("stopped",), pairs=2))
    assert found.ratio.median == pytest.approx(0.5, abs=0.05)
    assert found.among_ttft_s.p50 == pytest.approx(0.2)
    assert found.alone_ttft_s.p50 == pytest.approx(0.1)
