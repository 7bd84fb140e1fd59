"""How far a job may run ahead, for whatever readers and acknowledgements there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.jobs.window import has_room


@pytest.mark.parametrize(
    ("made", "acknowledged", "window", "readers", "expected"),
    [
        (10_000, 0, None, [], True),
        (8, 0, None, [0], False),
        (7, 0, None, [0], True),
        (12, 0, None, [0, 5, 4], True),
        (13, 0, None, [0, 5, 4], False),
        (3, 0, 4, [], True),
        (4, 0, 4, [], False),
        (4, 1, 4, [4], True),
        (4, 0, 4, [4], False),
        (100, 100, 1, [0], False),
        (5, 0, None, [9], True),
    ],
)
def test_an_event_may_be_made(
    made: int, acknowledged: int, window: int | None, readers: list[int], expected: bool
) -> None:
    assert expected == has_room(
        made, acknowledged=acknowledged, window=window, readers=readers, ahead=8
    )


@given(
    made=st.integers(0, 99),
    acknowledged=st.integers(0, 99),
    window=st.none() | st.integers(1, 20),
    readers=st.lists(st.integers(0, 99), min_size=1),
)
def test_neither_bound_is_ever_passed(
    made: int, acknowledged: int, window: int | None, readers: list[int]
) -> None:
    """And another reader, or one that has come further, never takes room away from a read job."""
    state = {"acknowledged": acknowledged, "window": window, "ahead": 8}
    if has_room(made, readers=readers, **state):  # type: ignore[arg-type]
        assert window is None or made + 1 - acknowledged <= window
        assert made + 1 - max(readers) <= 8
        assert has_room(made, readers=[*readers, 0], **state)  # type: ignore[arg-type]
        assert has_room(made, readers=[each + 1 for each in readers], **state)  # type: ignore[arg-type]
        assert has_room(made, readers=[], **state)  # type: ignore[arg-type]
