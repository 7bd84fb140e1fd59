"""One request, read as its kind reads, on virtual time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from penstock.loadgen.outcome import Outcome
from penstock.loadgen.reader import Habits

from .servers import HEAD, Line, MemoryServer, chunked, event, make_ask, paced, read


async def test_times_are_those_of_the_pieces(autojump_clock: trio.testing.MockClock) -> None:
    outcome = await read(paced(4, first_s=0.5, gap_s=0.1, tokens=8))
    assert outcome.ending == "done"
    assert list(outcome.times) == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert outcome.first_s == pytest.approx(0.5)
    assert outcome.tokens_each == 2
    assert outcome.tokens_between(0.55, 0.75) == 4
    assert outcome.prompt_tokens == 5


async def test_a_leaving_reader_leaves_after_its_pieces(
    autojump_clock: trio.testing.MockClock,
) -> None:
    noticed: list[float] = []

    async def serve(line: Line) -> None:
        try:
            await paced(100, first_s=1, gap_s=1)(line)
        finally:
            noticed.append(trio.current_time())

    outcome = await read(serve, make_ask("leaving", after=3))
    assert (outcome.ending, len(outcome.times)) == ("left", 3)
    assert outcome.ended_s == pytest.approx(3)
    assert noticed


async def test_a_stopped_reader_takes_nothing_more_and_holds_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken = 0

    async def serve(line: Line) -> None:
        nonlocal taken
        await line.say(HEAD)
        while True:
            await line.say(chunked(event("a")))
            taken += 1

    outcome = await read(serve, make_ask("stopped", after=2), Habits(hold_s=7))
    assert (outcome.ending, outcome.ended_s) == ("held", 7)
    assert len(outcome.times) == taken == 2


async def test_a_slow_reader_reads_so_many_bytes_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    outcome = await read(paced(50, first_s=0, gap_s=0), make_ask("slow"), Habits(slow_bytes_s=100))
    assert outcome.ending == "done"
    assert outcome.bytes_read / outcome.ended_s == pytest.approx(100, rel=0.1)


async def test_small_buffers_are_for_those_that_do_not_keep_up() -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, paced(1, first_s=0, gap_s=0))
        told: list[Outcome] = []
        for kind in ("reader", "slow", "stopped", "leaving"):
            await server.readers(Habits(hold_s=0)).read(make_ask(kind), 0, told.append)
        assert server.smalls == [False, True, True, False]
        nursery.cancel_scope.cancel()


async def test_whoever_waits_too_long_gives_up(autojump_clock: trio.testing.MockClock) -> None:
    outcome = await read(paced(3, first_s=1, gap_s=60), habits=Habits(patience_s=30))
    assert (outcome.ending, outcome.ended_s) == ("timeout", 30)
    assert len(outcome.times) == 1
    assert outcome.detail == "not done after 30 s"


async def test_a_connection_that_breaks_is_a_cut() -> None:
    async def serve(line: Line) -> None:
        await line.say(HEAD + chunked(event("a")))

    outcome = await read(serve)
    assert (outcome.ending, len(outcome.times)) == ("cut", 1)


async def test_no_connection_is_told_as_such() -> None:
    told: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, paced(1, first_s=0, gap_s=0))
        server.refuses = True
        await server.readers().read(make_ask(), 0, told.append)
    assert (told[0].ending, told[0].detail) == ("connect", "Connection refused")
    assert told[0].connected_s is None


async def test_what_is_cancelled_is_told_too(autojump_clock: trio.testing.MockClock) -> None:
    told: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, paced(9, first_s=1, gap_s=1))
        with trio.move_on_after(2.5):
            await server.readers().read(make_ask(), 0, told.append)
        nursery.cancel_scope.cancel()
    assert (told[0].ending, len(told[0].times)) == ("unfinished", 2)
