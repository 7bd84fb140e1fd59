"""Slots are shared between accounts, not between requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.fairness import REMEMBERED, FairQueue
from penstock.schedule import Schedule
from penstock.turns import Chunk, Entry, Moves, State

TURN_S = 0.01


def pushed(queue: FairQueue[Entry], *accounts: str) -> list[Entry]:
    entries = [Entry(account) for account in accounts]
    for entry in entries:
        queue.push(entry)
    return entries


def popped(queue: FairQueue[Entry]) -> Iterator[Entry]:
    while queue:
        yield queue.pop()


def test_one_account_is_served_in_order() -> None:
    queue: FairQueue[Entry] = FairQueue()
    entries = pushed(queue, *"aaaa")
    queue.charge(entries[0], 5)
    assert list(popped(queue)) == entries


def test_accounts_that_cost_the_same_take_turns() -> None:
    queue: FairQueue[Entry] = FairQueue()
    pushed(queue, *"aaaabbc")
    assert "".join(entry.account for entry in popped(queue)) == "abcabaa"


def test_a_newcomer_is_next_however_long_the_queue_of_another_is() -> None:
    queue: FairQueue[Entry] = FairQueue()
    entries = pushed(queue, *"a" * 200)
    for entry in entries[:8]:
        assert queue.pop() is entry
        queue.charge(entry, 30)
    (late,) = pushed(queue, "b")
    assert queue.pop() is late


def test_nobody_saves_up_for_later() -> None:
    """Two have been served a lot when a third comes: it is their equal, not their creditor."""
    queue: FairQueue[Entry] = FairQueue()
    pushed(queue, *"ab" * 20)
    for _ in range(10):
        queue.charge(queue.pop(), 100)
    pushed(queue, *"c" * 20)
    served: Counter[str] = Counter()
    for _ in range(15):
        entry = queue.pop()
        queue.charge(entry, 100)
        served[entry.account] += 1
    assert served == {"a": 5, "b": 5, "c": 5}


def test_twice_the_weight_is_twice_the_share() -> None:
    queue: FairQueue[Entry] = FairQueue()
    for _ in range(60):
        queue.push(Entry("heavy", 2.0))
        queue.push(Entry("light", 1.0))
    served: Counter[str] = Counter()
    for _ in range(60):
        entry = queue.pop()
        queue.charge(entry, 10)
        served[entry.account] += 1
    assert served == {"heavy": 40, "light": 20}


def test_what_does_not_wait_cannot_be_taken_out() -> None:
    queue: FairQueue[Entry] = FairQueue()
    first, second = pushed(queue, "a", "b")
    queue.remove(first)
    assert list(queue) == [second]
    for gone in (first, Entry("never")):
        with pytest.raises(ValueError):  # noqa: PT011  # whose message is the deque's own
            queue.remove(gone)
    assert queue.pop() is second
    with pytest.raises(ValueError):  # noqa: PT011
        queue.pop()


def test_counters_of_those_who_left_are_forgotten_in_time() -> None:
    queue: FairQueue[Entry] = FairQueue()
    (waiting,) = pushed(queue, "waits")
    for number in range(2 * REMEMBERED):
        queue.charge(Entry(str(number)), 1)
    pushed(queue, "more")
    assert queue.pop() is waiting
    assert len(queue._accounts) <= REMEMBERED + 1
    queue.pop()
    assert not queue._accounts


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["push", "pop", "remove"]))))
def test_whatever_is_done_what_waits_is_what_was_pushed_and_not_taken(
    actions: list[tuple[str, str]],
) -> None:
    queue: FairQueue[Entry] = FairQueue()
    inside: list[Entry] = []
    for account, action in actions:
        if action == "push":
            inside += pushed(queue, account)
        elif inside and action == "pop":
            inside.remove(queue.pop())
        elif inside:
            queue.remove(inside.pop())
        assert len(queue) == len(inside)
        assert set(queue) == set(inside)


@dataclass
class World:
    """Accounts that always have requests waiting, over the real schedule; time is counted in turns.

    `stall` says whether a reader stops after the token that it just took; with `pooled`, all are
    charged to one account.
    """

    schedule: Schedule
    demand: dict[str, int]
    random: Random
    stall: Callable[[], bool] = lambda: False
    pooled: bool = False
    made: Counter[str] = field(default_factory=Counter)
    owner: dict[Entry, str] = field(default_factory=dict)
    left: dict[Entry, int] = field(default_factory=dict)
    stalled: dict[Entry, float] = field(default_factory=dict)
    now_s: float = 0.0

    def run(self, turns: int) -> None:
        for account, streams in self.demand.items():
            for _ in range(streams):
                self.arrive(account)
        for _ in range(turns):
            self.now_s += TURN_S
            self.wake()
            self.turn()

    def arrive(self, owner: str) -> None:
        entry = Entry("all" if self.pooled else owner, prompt_tokens=20)
        self.owner[entry] = owner
        self.left[entry] = self.random.randint(10, 60)
        self.schedule.arrive(entry)

    def wake(self) -> None:
        for entry, until_s in list(self.stalled.items()):
            if until_s <= self.now_s:
                del self.stalled[entry]
                self.schedule.take(entry)
                self.schedule.read(entry)

    def turn(self) -> None:
        turn = self.schedule.begin(self.now_s)
        self.schedule.finish()
        self.schedule.take_released()
        if turn is None or isinstance(turn, Moves):
            return
        for entry in turn.entries:
            if isinstance(turn, Chunk):
                self.schedule.prefilled(entry)
                self.schedule.read(entry)
            self.token(entry)

    def token(self, entry: Entry) -> None:
        self.made[self.owner[entry]] += 1
        self.left[entry] -= 1
        last = self.left[entry] == 0
        self.schedule.made(entry, self.now_s, last=last)
        if last:
            assert entry.state is State.ENDED
            del self.left[entry]
            self.stalled.pop(entry, None)
            self.arrive(self.owner.pop(entry))
        elif entry.held:
            return
        elif self.stall():
            self.stalled[entry] = self.now_s + self.random.uniform(0.1, 3)
        else:
            self.schedule.read(entry)

    def jain(self) -> float:
        """1 where all have had the same, 1/n where one has had everything."""
        shares = [self.made[account] for account in self.demand]
        return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


DEMAND = {f"key{number}": 3 + 4 * number for number in range(10)}


def test_ten_accounts_with_unequal_demand_get_equal_shares() -> None:
    world = World(Schedule(8, lookahead=0), DEMAND, Random(1))
    world.run(6000)
    assert sum(world.made.values()) > 20_000
    assert world.jain() >= 0.95


def test_readers_that_stall_do_not_cost_the_other_accounts_their_share() -> None:
    random = Random(2)
    schedule = Schedule(8, lookahead=1, park_grace_s=0.05, quantum_s=0.02)
    world = World(schedule, DEMAND, random, stall=lambda: random.random() < 0.02)
    world.run(6000)
    assert schedule.evictions > 50
    assert world.jain() >= 0.95


def test_the_measure_can_fail() -> None:
    """All on one account, first come first served: shares follow demand."""
    world = World(Schedule(8, lookahead=0), DEMAND, Random(1), pooled=True)
    world.run(6000)
    assert world.jain() < 0.9
