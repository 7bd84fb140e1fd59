"""KV on a device: what the engine asks of the CUDA runtime, byte by byte."""

from __future__ import annotations

import gc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.cuda import DeviceArray
from penstock.engine.cudart import Cudart, CudartError
from penstock.engine.memory import HOST
from penstock.engine.slots import Slots
from penstock.engine.spec import ModelSpec

from .fake_cudart import FakeCudaMemory, FakeCudart

SHAPE = (4, 3, 8, 2)
SPEC = ModelSpec(
    layers=2, kv_heads=3, head_dim=2, vocab_size=9, max_positions=8, eos_ids=frozenset()
)


def filled(memory: FakeCudaMemory) -> tuple[DeviceArray, npt.NDArray[np.float16]]:
    """One array twice: on the device, and as it must look."""
    expected = np.arange(np.prod(SHAPE), dtype=np.float16).reshape(SHAPE)
    array = memory.zeros(SHAPE, np.float16)
    for row in range(SHAPE[0]):
        memory.write(array, row, 0, expected[row])
    return array, expected


def test_new_memory_is_zeroed_and_goes_with_its_last_reference() -> None:
    memory = FakeCudaMemory()
    array = memory.zeros((2, 5), np.float32)
    np.testing.assert_array_equal(memory.rows(array, 0, 2), np.zeros((2, 5), np.float32))
    assert len(memory.library.blocks) == 1
    del array
    gc.collect()
    assert not memory.library.blocks


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_device_does_to_rows_what_the_host_does(data: st.DataObject) -> None:
    memory = FakeCudaMemory()
    array, expected = filled(memory)
    for _ in range(data.draw(st.integers(1, 6))):
        row, other = data.draw(st.permutations(range(4)))[:2]
        start, stop = sorted((data.draw(st.integers(0, 8)), data.draw(st.integers(0, 8))))
        match data.draw(st.sampled_from(["read", "write", "swap"])):
            case "read":
                part = memory.read(array, row, start, stop)
                np.testing.assert_array_equal(part, expected[row, :, start:stop])
            case "write":
                part = np.full((3, stop - start, 2), -start, np.float16)
                memory.write(array, row, start, part)
                HOST.write(expected, row, start, part)
            case _:
                memory.swap([array], row, other, stop)
                HOST.swap([expected], row, other, stop)
    np.testing.assert_array_equal(memory.rows(array, 1, 3), expected[1:])


def test_nothing_is_under_way_when_the_model_may_run() -> None:
    """Its stream does not wait for copies."""
    memory = FakeCudaMemory()
    slots = Slots(SPEC, slots=3, max_len=8, memory=memory)
    for key in range(3):
        slots.open(key)
    slots.lengths[:] = 5
    assert memory.library.unsettled == 0
    slots.append(1, slots.copy_out(2, 0, 3))
    assert memory.library.unsettled == 0
    slots.gather([2])
    assert (slots.swaps, memory.library.unsettled) == (1, 0)


def test_rows_that_hold_nothing_are_swapped() -> None:
    memory = FakeCudaMemory()
    slots = Slots(SPEC, slots=2, max_len=8, memory=memory)
    slots.open(0)
    slots.open(1)
    assert slots.gather([1]) == [0]


def test_a_sequence_that_grows_asks_for_pinned_memory_now_and_then() -> None:
    memory = FakeCudaMemory()
    array = memory.zeros((1, 3, 64, 2), np.float16)
    for length in range(1, 64):
        memory.read(array, 0, 0, length)
    assert memory.library.calls["malloc_host"] <= 7


def test_memory_that_is_not_there_is_a_memory_error() -> None:
    memory = FakeCudaMemory(FakeCudart(free=100))
    assert memory.free_bytes() == 100
    with pytest.raises(MemoryError, match="cudaMalloc: out of memory"):
        memory.zeros((1000,), np.float32)


def test_what_the_runtime_refuses_is_told_in_its_words() -> None:
    cudart = Cudart(FakeCudart())
    with pytest.raises(CudartError, match="cudaMemcpy2D"):
        cudart.copy((0, 4), (0, 2), 3, 1)
