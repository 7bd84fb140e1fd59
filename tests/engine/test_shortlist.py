"""Drawing from the likeliest few gives what drawing from all gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.device_graph import DeviceGraph
from penstock.engine.model import Model, load_model
from penstock.engine.sampling import Draw, sample
from penstock.engine.sequence import BrokenRowError
from penstock.engine.shortlist import Shortlist
from penstock.models import embedded_model
from penstock.requests import Sampling
from tests.engine.fake_cudart import FakeCudaMemory
from tests.engine.fake_session import on_device
from tests.engine.layouts import MODELS, Rows
from tests.peers import alone, make_engine, make_prompt, sampled, start

from .layouts import CASES, Case, opened

IN_PLACE = [case for case in CASES if case.in_place]


@pytest.fixture(scope="module")
def device() -> Model:
    return on_device(load_model(embedded_model(), threads=1))


@pytest.fixture(scope="module")
def host() -> Model:
    return load_model(embedded_model(), threads=1)


@pytest.mark.parametrize("case", IN_PLACE, ids=str)
def test_what_the_file_says_of_the_layout_is_what_a_trial_finds(case: Case) -> None:
    model = opened(case.path)
    assert DeviceGraph(model.file).layout == model.layout


@pytest.mark.parametrize("case", IN_PLACE, ids=str)
def test_logits_are_the_same_wherever_the_cache_lies(case: Case) -> None:
    here, there = Rows(opened(case.path)), RowsOnDevice(on_device(opened(case.path)))
    for rows in (here, there):
        rows.prefill(0, [3, 1, 4, 1, 5, 9, 2, 6])
        rows.prefill(1, [5, 3])
        rows.prefill(2, [5, 8, 9, 7])
        rows.step({0: 7, 2: 3})
    for tokens in ({0: 1, 1: 2, 2: 3}, {1: 4}, {2: 5, 0: 9}):
        made, expected = there.step(tokens), here.step(tokens)
        for key in tokens:
            np.testing.assert_array_equal(made[key], expected[key])


class RowsOnDevice(Rows):
    """Its slots cannot be written to from outside, so they are not poisoned."""

    def __init__(self, model: Model) -> None:
        from penstock.engine.batch import make_batch
        from penstock.engine.slots import Slots

        self.slots = Slots(model.spec, slots=4, max_len=64, memory=model.memory)
        self.batch = make_batch(model, self.slots)


SAMPLINGS = [
    Sampling(temperature=0.0),
    Sampling(temperature=0.8, top_k=40),
    Sampling(temperature=1.0, top_k=63, top_p=0.9),
    Sampling(temperature=1.3, top_k=5, min_p=0.1),
    Sampling(temperature=1.0),
    Sampling(temperature=0.9, top_p=0.7),
    Sampling(temperature=1.0, top_k=64),
    Sampling(temperature=0.0, frequency_penalty=0.5),
    Sampling(temperature=0.7, top_k=20, logit_bias=((7, 2.0),)),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_a_request_gets_the_same_tokens_from_either(
    host: Model, device: Model, sampling: Sampling
) -> None:
    prompt = replace(make_prompt(9, max_tokens=20), sampling=sampling)
    assert alone(make_engine(device), prompt) == alone(make_engine(host), prompt)


def test_requests_of_both_kinds_share_a_step(host: Model, device: Model) -> None:
    prompts = [
        replace(make_prompt(4 + i, seed=i, max_tokens=8), sampling=sampling, logprobs=logprobs)
        for i, (sampling, logprobs) in enumerate(
            [(SAMPLINGS[0], None), (SAMPLINGS[4], None), (SAMPLINGS[1], None), (SAMPLINGS[0], 2)]
        )
    ]
    expected = [alone(make_engine(host), prompt) for prompt in prompts]
    engine = make_engine(device, slots=4)
    started = [start(engine, prompt) for prompt in prompts]
    made = [[first] for _, first in started]
    while made[0][-1].end is None:
        for index, result in enumerate(engine.step([sequence for sequence, _ in started])):
            made[index].append(sampled(result))
    assert made == expected


@pytest.mark.parametrize(("index", "crosses"), [(0, False), (1, False), (4, True), (7, True)])
def test_all_logits_cross_the_bus_for_those_alone_that_need_them(
    device: Model, index: int, crosses: bool
) -> None:
    engine = make_engine(device, slots=2)
    prompt = replace(make_prompt(5, max_tokens=20), sampling=SAMPLINGS[index])
    sequence, _ = start(engine, prompt)
    assert isinstance(device.memory, FakeCudaMemory)
    before = device.memory.library.bus_bytes
    engine.step([sequence])
    crossed = device.memory.library.bus_bytes - before
    told = 8 + 4  # the token, and where it stands
    few = 64 * (4 + 8) + 4
    assert crossed == told + few + (device.spec.vocab_size * 4 if crosses else 0)


def test_an_evicted_sequence_goes_on_from_its_copy(host: Model, device: Model) -> None:
    prompt = make_prompt(40, max_tokens=12)
    expected = alone(make_engine(host), prompt)
    engine = make_engine(device, slots=1, parked_kv_bytes=1 << 26)
    sequence, first = start(engine, prompt)
    made = [first, *(sampled(engine.step([sequence])[0]) for _ in range(3))]
    engine.evict(sequence)
    other, _ = start(engine, make_prompt(50, seed=3))
    engine.close(other)
    engine.admit(sequence)
    while made[-1].end is None:
        made.append(sampled(engine.step([sequence])[0]))
    assert made == expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_with_what_is_no_number_is_judged_by_all_its_logits(
    device: Model, value: float
) -> None:
    engine = make_engine(device)
    sequence, _ = start(engine, make_prompt(temperature=0.0))
    row = np.zeros(device.spec.vocab_size, np.float32)
    row[3000] = value
    made = Shortlist(
        np.zeros((1, 64), np.float32), np.zeros((1, 64), np.int64), np.array([False]), lambda _: row
    )
    sequence.cached += 1
    with np.errstate(invalid="ignore"):
        (result,) = engine._sample(made, [sequence])
    assert isinstance(result, BrokenRowError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_graph_doubts_what_is_no_number(tmp_path: Path, value: float) -> None:
    import onnx
    from onnx import TensorProto, helper

    about = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, 70])
    given_ = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 70])
    node = helper.make_node("Identity", ["x"], ["logits"])
    model = helper.make_model(
        helper.make_graph([node], "g", [given_], [about]),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "m.onnx")
    session = ort.InferenceSession(
        DeviceGraph(tmp_path / "m.onnx").ready(), providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).normal(size=(2, 1, 70)).astype(np.float32)
    x[1, 0, 69] = value
    (doubt,) = session.run(["shortlist.doubt"], {"x": x})
    assert (doubt[:, 0, 0] == 0).tolist() == [True, False]


def draws() -> Iterator[Draw]:
    for index, sampling in enumerate(SAMPLINGS[:4]):
        yield Draw(sampling, seed=index, index=index)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_the_few_and_the_whole_give_one_token(seed: int, coarse: bool) -> None:
    """Coarse logits, as of float16, are equal now and then: the lower id comes first in both."""
    logits = np.random.default_rng(seed).normal(size=(4, 500)).astype(np.float32)
    if coarse:
        logits = np.round(logits * 4).astype(np.float32) / np.float32(4) + np.float32(0)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :64]
    made = Shortlist(
        np.take_along_axis(logits, order, 1), order, np.ones(4, bool), lambda row: logits[row]
    )
    assert made.draw([0, 1, 2, 3], list(draws())) == sample(logits, list(draws()))


def test_only_what_is_sure_is_drawn_from_the_few() -> None:
    made = Shortlist(
        np.zeros((1, 64), np.float32),
        np.zeros((1, 64), np.int64),
        np.array([True]),
        lambda _: None,  # type: ignore[arg-type, return-value]
    )
    prompt = make_prompt()
    found = [made.suffices(0, replace(prompt, sampling=sampling)) for sampling in SAMPLINGS]
    assert found == [True, True, True, True, False, False, False, False, False]
    assert not made.suffices(0, replace(prompt, sampling=SAMPLINGS[0], logprobs=0))


def test_what_cuda_does_not_run_well_is_refused_by_its_reason() -> None:
    def lack(path: str) -> str:
        return str(DeviceGraph(MODELS / path / "model.onnx").lack())

    assert DeviceGraph(MODELS / "genai_fp16" / "model.onnx").lack() is None
    assert "attention in float32" in lack("genai_fp32")
    assert "not one of GroupQueryAttention" in lack("optimum_llama")
    assert "--device cuda" in lack("genai_int8")
