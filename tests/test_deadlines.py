"""A deadline ends what is late, whatever holds it up, and nothing else."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.deadlines import Deadline
from penstock.errors import DEADLINE
from penstock.live import Live


def ended(live: Live) -> bool:
    return live.scope.cancel_called and live.stopped().error.kind is DEADLINE


async def test_each_is_ended_in_its_own_time(autojump_clock: MockClock) -> None:
    deadline, lives = Deadline(10, "late"), [Live() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadline.run)

        async def live_through(live: Live, begins_s: float) -> None:
            await trio.sleep(begins_s)
            with deadline.of(live):
                await trio.sleep(30)

        async with trio.open_nursery() as living:
            for number, live in enumerate(lives):
                living.start_soon(live_through, live, 4.0 * number)
            for at_s, late in ((9.9, 0), (10.1, 1), (13.9, 1), (14.1, 2), (17.9, 2), (18.1, 3)):
                await trio.sleep_until(at_s)
                assert sum(map(ended, lives)) == late, at_s
        nursery.cancel_scope.cancel()
    assert repr(deadline) == "<Deadline 10 s of 0>"


async def test_what_has_ended_or_is_spared_is_left_alone(autojump_clock: MockClock) -> None:
    deadline, done, spared, late = Deadline(10, "late"), Live(), Live(), Live()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadline.run)
        with deadline.of(done):
            await wait_all_tasks_blocked()
        with deadline.of(spared, spares=lambda: True), deadline.of(late):
            await trio.sleep(11)
        nursery.cancel_scope.cancel()
    assert not done.scope.cancel_called
    assert not spared.scope.cancel_called
    assert ended(late)


async def test_without_a_limit_nothing_is_watched(autojump_clock: MockClock) -> None:
    deadline, live = Deadline(0, "late"), Live()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadline.run)
        with deadline.of(live):
            assert repr(deadline) == "<Deadline inf s of 0>"
            await trio.sleep(80_000)
        nursery.cancel_scope.cancel()
    assert not live.scope.cancel_called


async def test_what_has_ended_before_it_was_noticed_does_no_harm(
    autojump_clock: MockClock,
) -> None:
    deadline, late = Deadline(10, "late"), Live()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadline.run)
        await wait_all_tasks_blocked()
        with deadline.of(Live()):
            pass
        await wait_all_tasks_blocked()
        with deadline.of(late):
            await trio.sleep(11)
        nursery.cancel_scope.cancel()
    assert ended(late)
