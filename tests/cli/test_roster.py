"""Who is started when, without processes and without waiting."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.roster import Backoff, Place, Roster

BACKOFF = Backoff(first_s=1, most_s=8, steady_s=60, tries=3)


def full(count: int) -> tuple[Roster, list[Place]]:
    """A roster whose processes have just been started, at 0."""
    roster = Roster(count, BACKOFF)
    places = [roster.fill(0) for _ in range(count)]
    assert roster.fill(0) is None
    return roster, [place for place in places if place]


def serving(count: int) -> tuple[Roster, list[Place]]:
    roster, places = full(count)
    for place in places:
        roster.serves(place, 0)
    return roster, places


def test_all_are_started_at_once_and_none_twice() -> None:
    roster, places = full(3)
    assert len({*map(id, places)}) == 3
    assert roster.next_s == inf


def test_where_none_has_served_yet_the_first_end_is_the_end_of_all() -> None:
    roster, places = full(3)
    assert roster.ended(places[1], 0.1) is None
    assert roster.stopping
    assert roster.fill(1000) is None


def test_once_one_has_served_another_that_does_not_come_to_it_is_tried_again() -> None:
    roster, places = full(2)
    roster.serves(places[0], 5)
    assert roster.ended(places[1], 6) == 1
    assert roster.next_s == 7
    assert roster.fill(6.9) is None
    assert roster.fill(7) is places[1]
    assert roster.next_s == inf


def test_one_that_has_served_for_long_is_replaced_at_once() -> None:
    roster, places = serving(2)
    assert roster.ended(places[0], 60) == 0
    assert roster.fill(60) is places[0]


def test_one_that_keeps_ending_is_replaced_ever_later_up_to_a_bound() -> None:
    roster, places = serving(2)
    waits, now_s = [], 0.0
    for _ in range(5):
        after_s = roster.ended(places[0], now_s)
        assert after_s is not None
        waits.append(after_s)
        now_s += after_s
        assert roster.fill(now_s) is places[0]
        roster.serves(places[0], now_s)
    assert waits == [1, 2, 4, 8, 8]
    # Its neighbour has nothing to do with that.
    assert roster.ended(places[1], now_s) == (0 if now_s >= 60 else 1)


def test_a_long_service_ends_a_row_of_failures() -> None:
    roster, places = serving(1)
    assert roster.ended(places[0], 1) == 1
    roster.fill(2)
    roster.serves(places[0], 2)
    assert roster.ended(places[0], 62) == 0
    roster.fill(62)
    roster.serves(places[0], 62)
    assert roster.ended(places[0], 63) == 1


def test_a_row_of_failures_is_never_too_long_for_its_sum() -> None:
    assert BACKOFF.after_s(100_000) == 8


def fail(roster: Roster, place: Place) -> float | None:
    """Start it, and it does not come to serving."""
    now_s = place.due_s
    while roster.fill(now_s) is not place:
        pass
    return roster.ended(place, now_s)


def test_a_server_in_which_nobody_serves_and_nobody_comes_to_it_ends() -> None:
    roster, places = serving(1)
    roster.ended(places[0], 1)
    assert [fail(roster, places[0]) for _ in range(3)] == [2, 4, None]
    assert roster.stopping


def test_as_long_as_one_serves_the_others_are_tried_for_ever() -> None:
    roster, places = serving(2)
    roster.ended(places[0], 1)
    for _ in range(50):
        assert fail(roster, places[0]) is not None
    # Then that one ends, too, and may still come back.
    assert roster.ended(places[1], 1000) == 0
    assert [fail(roster, places[1]) for _ in range(3)] == [1, 2, None]


def test_as_long_as_one_may_come_to_serving_the_others_are_tried_for_ever() -> None:
    """A large model takes minutes to load, in which its neighbour may fail any number of times."""
    roster, places = serving(2)
    assert roster.ended(places[0], 60) == roster.ended(places[1], 60) == 0
    assert roster.fill(60) is places[0]
    for _ in range(50):
        assert fail(roster, places[1]) is not None


def test_one_that_comes_to_serving_is_new_hope_for_all() -> None:
    roster, places = serving(1)
    roster.ended(places[0], 1)
    for _ in range(2):
        fail(roster, places[0])
    now_s = roster.next_s
    roster.fill(now_s)
    roster.serves(places[0], now_s)
    roster.ended(places[0], now_s)
    assert [fail(roster, places[0]) is None for _ in range(3)] == [False, False, True]


def test_nobody_is_started_after_the_end_was_asked_for() -> None:
    roster, places = serving(2)
    roster.ended(places[0], 1)
    roster.stop()
    assert roster.next_s == inf
    assert roster.fill(1000) is None
    assert roster.ended(places[1], 1000) is None


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 100))))
def test_a_place_is_never_lost_and_never_filled_twice(
    count: int, ends: list[tuple[int, bool, float]]
) -> None:
    """Until all are to end, each place has a process or a time at which it gets one."""
    roster, places = serving(count)
    now_s = 0.0
    for index, serves, after_s in ends:
        now_s += after_s
        while (filled := roster.fill(now_s)) is not None:
            assert filled.due_s == inf
        place = places[index % count]
        if place.due_s < inf:
            assert now_s < place.due_s <= now_s + BACKOFF.most_s
            continue
        if serves:
            roster.serves(place, now_s)
        if roster.ended(place, now_s) is None:
            assert roster.stopping
            assert not any(each.serves_since_s is not None for each in places)
            return
