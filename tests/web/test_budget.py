"""What a peer may do: a burst at once, then a pace."""

from __future__ import annotations

from penstock.web.budget import Budget


def test_a_burst_is_allowed_and_not_one_more() -> None:
    budget = Budget(3, 1, now=100)
    assert [budget.spend(1, now=100) for _ in range(4)] == [True, True, True, False]


def test_time_gives_back_up_to_the_burst() -> None:
    budget = Budget(3, 2, now=0)
    assert all(budget.spend(1, now=0) for _ in range(3))
    assert [budget.spend(1, now=1) for _ in range(3)] == [True, True, False]
    assert [budget.spend(1, now=1000) for _ in range(4)] == [True, True, True, False]


def test_a_flood_stays_over_its_budget() -> None:
    budget = Budget(10, 1, now=0)
    for tick in range(1000):
        budget.spend(1, now=tick / 100)
    assert not budget.spend(1, now=10)
    assert budget.spend(0, now=2000)


def test_work_earns_answers() -> None:
    budget = Budget(2, 0, now=0)
    assert budget.spend(2, now=0)
    budget.earn(1)
    assert [budget.spend(1, now=0) for _ in range(2)] == [True, False]
