"""Slots: every row keeps its content, wherever it is moved."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.model import ModelSpec
from penstock.engine.slots import Slots

SPEC = ModelSpec(
    layers=2, kv_heads=2, head_dim=4, vocab_size=10, max_positions=8, eos_ids=frozenset()
)


def write(slots: Slots, key: int, length: int) -> None:
    row = slots.row(key)
    slots.lengths[row] = length
    for number, buffer in enumerate(slots.buffers):
        buffer[row, :, :length] = 100 * key + number


def intact(slots: Slots, key: int, length: int) -> bool:
    row = slots.row(key)
    return slots.lengths[row] == length and all(
        (buffer[row, :, :length] == 100 * key + number).all()
        for number, buffer in enumerate(slots.buffers)
    )


@settings(max_examples=150)
@given(data=st.data())
def test_gather_moves_the_wanted_to_the_front_and_keeps_every_row(data: st.DataObject) -> None:
    slots = Slots(SPEC, slots=6, max_len=8)
    lengths: dict[int, int] = {}
    for key in range(30):
        action = data.draw(st.sampled_from(["open", "close", "gather"]))
        if action == "open" and len(lengths) < 6:
            slots.open(key)
            lengths[key] = data.draw(st.integers(0, 8))
            write(slots, key, lengths[key])
        elif action == "close" and lengths:
            gone = data.draw(st.sampled_from(sorted(lengths)))
            slots.close(gone)
            del lengths[gone]
        elif lengths:
            wanted = data.draw(st.lists(st.sampled_from(sorted(lengths)), min_size=1, unique=True))
            rows = slots.gather(wanted)
            assert sorted(rows) == list(range(len(wanted)))
            assert rows == [slots.row(key) for key in wanted]
        assert all(intact(slots, key, length) for key, length in lengths.items())


def test_gather_moves_nothing_that_is_in_place() -> None:
    slots = Slots(SPEC, slots=4, max_len=8)
    for key in range(4):
        slots.open(key)
    slots.gather([2, 0, 1])
    assert slots.swaps == 0
    slots.gather([3, 0])
    assert slots.swaps == 1


def test_a_new_sequence_starts_empty() -> None:
    slots = Slots(SPEC, slots=1, max_len=8)
    slots.open(1)
    write(slots, 1, 5)
    slots.close(1)
    slots.open(2)
    assert slots.lengths[slots.row(2)] == 0
    assert repr(slots) == "<Slots 1 of 1 in use>"


def test_buffers_have_one_row_a_slot() -> None:
    slots = Slots(SPEC, slots=3, max_len=8)
    assert [buffer.shape for buffer in slots.buffers] == [(3, 2, 8, 4)] * 4
    assert all(buffer.dtype == np.float32 for buffer in slots.buffers)
