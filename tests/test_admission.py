"""Admission: places are counted, refused at once beyond the last, and always given back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock

from penstock.admission import Admission
from penstock.errors import PenstockError
from penstock.requests import Caller


def make_admission(*, slots: int, queue: int, max_streams: int = 1000) -> Admission:
    """With nobody in the schedule, so that all who are inside are entering."""
    return Admission(slots=slots, queue=queue, max_streams=max_streams, waiting=lambda: -slots)


async def test_places_are_slots_and_queue_and_one_more_is_refused() -> None:
    admission = make_admission(slots=2, queue=3)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(admission.place())
        with pytest.raises(PenstockError) as caught, admission.place():
            pass
        assert caught.value.kind.code == "overloaded"
        assert caught.value.kind.status == 429
        assert repr(admission) == "<Admission 5 inside, 5 of them entering>"
    assert admission.taken == 0


async def test_a_place_comes_back_after_an_error_and_after_a_cancel() -> None:
    admission = make_admission(slots=1, queue=0)
    with pytest.raises(KeyError), admission.place():
        raise KeyError
    with trio.move_on_after(0), admission.place():
        await trio.sleep_forever()
    assert admission.taken == 0


@pytest.mark.parametrize(("service_s", "low", "high"), [(0.1, 1, 1), (10, 8, 10), (1000, 60, 60)])
async def test_retry_after_follows_the_measured_service_time(
    autojump_clock: MockClock, service_s: float, low: int, high: int
) -> None:
    """Places turn over twice while one is served, here with queue = slots; always 1 to 60."""
    admission = make_admission(slots=2, queue=2)
    for _ in range(20):
        with admission.place():
            await trio.sleep(service_s)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(admission.place())
        with pytest.raises(PenstockError) as caught, admission.place():
            pass
    assert caught.value.retry_after_s is not None
    assert low <= caught.value.retry_after_s <= high


async def test_draining_refuses_with_unavailable() -> None:
    admission = make_admission(slots=2, queue=2)
    admission.draining = True
    with pytest.raises(PenstockError) as caught, admission.place():
        pass
    assert (caught.value.kind.code, caught.value.kind.status) == ("unavailable", 429)
    assert caught.value.retry_after_s is not None


async def test_those_with_a_slot_or_evicted_take_no_place_in_the_queue() -> None:
    """Each that arrives in the schedule is counted there: here it gets a slot and is evicted."""
    admission = make_admission(slots=2, queue=0, max_streams=5)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(admission.place()).arrived()
        assert repr(admission) == "<Admission 5 inside, 0 of them entering>"
        with pytest.raises(PenstockError, match="all places are taken"), admission.place():
            pass
    assert (admission.taken, admission.entering) == (0, 0)


async def test_the_queue_is_what_waits_beyond_the_free_slots() -> None:
    waiting = 2
    admission = Admission(slots=4, queue=3, max_streams=99, waiting=lambda: waiting)
    with admission.place():
        with pytest.raises(PenstockError), admission.place():
            pass
        waiting = 1
        with admission.place():
            pass


async def test_one_client_can_be_held_to_a_number_of_streams() -> None:
    admission = Admission(
        slots=8, queue=8, max_streams=99, max_streams_per_client=2, waiting=lambda: -8
    )
    with admission.place(caller=Caller("a")), admission.place(caller=Caller("a")):
        with pytest.raises(PenstockError, match="too many requests running") as caught:
            admission.place(caller=Caller("a")).__enter__()
        assert caught.value.kind.status == 429
        with admission.place(2, caller=Caller("b")):
            pass
    with (
        pytest.raises(PenstockError, match="you have 2 places"),
        admission.place(3, caller=Caller("b")),
    ):
        pass
    with admission.place(2, caller=Caller("a")):
        pass
    assert admission.taken == 0


async def test_a_full_queue_makes_room_as_long_as_others_are_displaced() -> None:
    asked: list[tuple[str, int, int]] = []

    def displace(account: str, arriving: int, places: int, error: PenstockError) -> bool:
        assert error.kind.code == "overloaded"
        asked.append((account, arriving, places))
        return account == "late"

    admission = Admission(slots=1, queue=3, max_streams=99, waiting=lambda: 2, displace=displace)
    with admission.place(1, caller=Caller("late")):
        assert not asked
        with admission.place(2, caller=Caller("late")):
            assert asked == [("late", 3, 2)]
        with pytest.raises(PenstockError), admission.place(2, caller=Caller("crowd")):
            pass
    assert asked[1:] == [("crowd", 2, 2)]
    assert (admission.taken, admission.entering, admission.entering_of) == (0, 0, {})
