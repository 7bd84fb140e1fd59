"""Admission: places are counted, refused at once beyond the last, and always given back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock

from penstock.admission import Admission
from penstock.errors import PenstockError


async def test_places_are_slots_and_queue_and_one_more_is_refused() -> None:
    admission = Admission(slots=2, queue=3)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(admission.place())
        with pytest.raises(PenstockError) as caught, admission.place():
            pass
        assert caught.value.kind.code == "overloaded"
        assert caught.value.kind.status == 429
        assert repr(admission) == "<Admission 5 of 5 places taken>"
    assert admission.taken == 0


async def test_a_place_comes_back_after_an_error_and_after_a_cancel() -> None:
    admission = Admission(slots=1, queue=0)
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
    admission = Admission(slots=2, queue=2)
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
    admission = Admission(slots=2, queue=2)
    admission.draining = True
    with pytest.raises(PenstockError) as caught, admission.place():
        pass
    assert (caught.value.kind.code, caught.value.kind.status) == ("unavailable", 429)
    assert caught.value.retry_after_s is not None
