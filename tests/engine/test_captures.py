"""Steps that are replayed: which, over how many rows, and that they give what other steps give.

`fake_session.py` raises where a rule of capturing is broken, so each test here is of that too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.batch import make_batch
from penstock.engine.captures import Captures, graph_ids
from penstock.engine.engine import Engine
from penstock.engine.model import Model, load_model
from penstock.engine.slots import Slots
from penstock.engine.warmup import warm_up
from penstock.models import embedded_model
from tests.engine.fake_session import FakeSession, on_device
from tests.peers import alone, make_engine, make_prompt, sampled, start

EMPTY = np.zeros(256, np.int64)


@pytest.fixture(scope="module")
def host() -> Model:
    return load_model(embedded_model(), threads=1)


@pytest.fixture
def captured(host: Model) -> Model:
    return on_device(host, capture_rows=8)


def session_of(model: Model) -> FakeSession:
    assert isinstance(model.session, FakeSession)
    return model.session


def test_sizes_are_few_and_close_together() -> None:
    captures = Captures(limit=256, slots=256, max_len=64, ids=graph_ids())
    sizes = [each.rows for each in captures.all]
    assert sizes == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    assert [each.graph_id for each in captures.all] == list(range(1, 17))


@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300))
def test_a_step_is_captured_where_it_is_within_the_limit(limit: int, slots: int, rows: int) -> None:
    captures = Captures(limit=limit, slots=slots, max_len=64, ids=graph_ids())
    rows = min(rows, slots)
    found = captures.of(rows, EMPTY)
    assert (found is not None) == (rows <= limit)
    if found is not None:
        assert rows <= found.rows <= min(limit, slots)
        assert found.rows - rows <= found.rows / 3


def test_a_row_that_is_full_is_not_taken_along() -> None:
    captures = Captures(limit=8, slots=8, max_len=64, ids=graph_ids())
    lengths = np.array([3, 3, 3, 3, 3, 64, 64, 3])
    found = [captures.of(rows, lengths) for rows in range(1, 9)]
    assert [each.rows if each else None for each in found] == [1, 2, 3, 4, None, 6, 8, 8]


def test_nothing_is_captured_unless_it_is_asked_for(host: Model) -> None:
    model = on_device(host)
    assert alone(make_engine(model), make_prompt(max_tokens=4))
    assert make_engine(model).captured_rows == ()
    assert set(session_of(model).runs) == {-1}


def test_each_size_is_captured_once_and_replayed_then(captured: Model) -> None:
    engine = make_engine(captured, slots=4)
    assert engine.captured_rows == (1, 2, 3, 4)
    sequences = [start(engine, make_prompt(5 + index))[0] for index in range(3)]
    runs = session_of(captured).runs
    runs.clear()
    for count in (1, 2, 3, 2, 1, 3):
        engine.step(sequences[:count])
    assert runs == [1, 2, 3, 2, 1, 3]
    assert len(session_of(captured).captured) == 3


def test_an_engine_does_not_replay_what_one_before_it_has_captured(captured: Model) -> None:
    """Its addresses are others; onnxruntime knows a graph by its number alone."""
    for _ in range(2):
        engine = make_engine(captured, slots=2)
        sequence, _ = start(engine, make_prompt())
        sampled(engine.step([sequence])[0])
    assert [graph_id for _, graph_id in session_of(captured).captured] == [1, 3]


def test_prompts_are_never_captured(captured: Model) -> None:
    engine = make_engine(captured, slots=2)
    start(engine, make_prompt(40))
    assert set(session_of(captured).runs) == {-1}


@pytest.mark.parametrize("running", [1, 3, 5])
def test_tokens_are_those_of_a_step_that_is_not_captured(
    host: Model, captured: Model, running: int
) -> None:
    """With rows of others behind, parked in the midst of their prompts and of their answers."""
    prompts = [make_prompt(5 + 7 * index, seed=index, max_tokens=8) for index in range(running)]
    expected = [alone(make_engine(host), prompt) for prompt in prompts]
    engine = make_engine(captured, slots=8)
    started = [start(engine, prompt) for prompt in prompts]
    parked, first = start(engine, make_prompt(30, seed=9, max_tokens=8))
    half = engine.open(make_prompt(40, seed=8, max_tokens=8))
    engine.admit(half)
    engine.prefill(half)
    made = [[each] for _, each in started]
    while made[0][-1].end is None:
        for index, result in enumerate(engine.step([sequence for sequence, _ in started])):
            made[index].append(sampled(result))
    assert made == expected
    others = {parked: [first], half: []}
    while (result := engine.prefill(half)) is None:
        pass
    others[half].append(sampled(result))
    for sequence, tokens in others.items():
        while tokens[-1].end is None:
            tokens.append(sampled(engine.step([sequence])[0]))
        assert tokens == alone(make_engine(host), sequence.prompt)


def test_beside_a_row_that_is_full_a_step_is_run_as_usual(captured: Model) -> None:
    slots = Slots(captured.spec, slots=6, max_len=16, memory=captured.memory)
    batch = make_batch(captured, slots)
    for row in range(6):
        slots.open(row)
        batch.prefill(row, np.arange(8, 12 + row))
    slots.lengths[5] = 16
    before = slots.copy_out(5, 0, 16)
    runs = session_of(captured).runs
    runs.clear()
    batch.step([5] * 5)
    assert runs == [-1]
    assert slots.lengths.tolist() == [5, 6, 7, 8, 9, 16]
    for part, kept in zip(slots.copy_out(5, 0, 16).parts, before.parts, strict=True):
        np.testing.assert_array_equal(part, kept)


def test_warming_up_captures_all_of_them(captured: Model) -> None:
    engine = Engine(captured, slots=7, max_len=64, prefill_chunk=16)
    warm_up(engine, 7)
    ids = {graph_id for _, graph_id in session_of(captured).captured}
    assert engine.captured_rows == (1, 2, 3, 4, 6, 7)
    assert ids == set(range(1, 7))


def test_what_is_captured_is_the_threads_own(captured: Model) -> None:
    """So a server warms up where it will run: `test_engine_thread.py`."""
    from threading import Thread

    engine = make_engine(captured, slots=2)
    sequence, _ = start(engine, make_prompt())
    engine.step([sequence])
    thread = Thread(target=engine.step, args=([sequence],))
    thread.start()
    thread.join()
    threads = {each for each, _ in session_of(captured).captured}
    assert len(threads) == 2


def test_a_graph_that_is_told_anew_is_refused_by_the_stand_in(captured: Model) -> None:
    engine = make_engine(captured, slots=2)
    sequence, _ = start(engine, make_prompt())
    engine.step([sequence])
    batch = engine._batch
    binding, _ = batch._captured[1]  # type: ignore[union-attr]
    moved = captured.memory.zeros((2, 1), np.int64)
    kind = captured.signature.tokens["input_ids"].type
    binding.bind_input("input_ids", "cpu", 0, kind, [1, 1], captured.memory.address(moved, 0))
    (result,) = engine.step([sequence])
    assert isinstance(result, RuntimeError)
    assert "other addresses" in str(result)


def test_a_captured_run_from_the_host_is_refused_by_the_stand_in(captured: Model) -> None:
    engine = make_engine(captured, slots=2)
    sequence, _ = start(engine, make_prompt())
    batch = engine._batch
    capture = batch._captures.all[0]  # type: ignore[union-attr]
    binding, _ = batch._captured_step(capture)  # type: ignore[union-attr]
    ids = np.zeros((1, 1), np.int64)
    binding.bind_input("input_ids", "cpu", 0, np.int64, [1, 1], ids.ctypes.data)
    (result,) = engine.step([sequence])
    assert "captured with {'input_ids'} on the host" in str(result)


def test_a_request_that_draws_from_all_logits_has_them_from_a_replayed_step(
    host: Model, captured: Model
) -> None:
    prompt = make_prompt(9, max_tokens=12, temperature=1.0)
    prompt = replace(prompt, sampling=replace(prompt.sampling, top_k=0, frequency_penalty=0.4))
    assert alone(make_engine(captured), prompt) == alone(make_engine(host), prompt)
