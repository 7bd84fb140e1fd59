"""KV in bfloat16, which numpy has not: bound by its number, moved as what it is, two bytes each.

The graph here casts it to float32 and back around attention, for a CPU has no bfloat16 kernels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from penstock.engine.facts import Facts
from penstock.engine.folder import ModelFolder
from penstock.engine.model import Model, _spec
from penstock.engine.signature import BFLOAT16_TYPE, read_signature
from tests.engine.fake_cudart import FakeCudaMemory
from tests.engine.fake_session import FakeSession
from tests.export.graphs import widened, written
from tests.peers import alone, make_engine, make_prompt, sampled, start


def test_onnx_has_the_number_that_we_give_it() -> None:
    assert BFLOAT16_TYPE == TensorProto.BFLOAT16


def with_narrow_cache(file: Path) -> None:
    """Let past and present be bfloat16, and attention float32 between two casts."""
    model = onnx.load(file)
    graph = model.graph
    past = {each.name for each in graph.input if each.name.startswith("past")}
    present = {each.name for each in graph.output if each.name.startswith("present")}
    for node in graph.node:
        for names, edges in ((past, node.input), (present, node.output)):
            for index, name in enumerate(edges):
                if name in names:
                    edges[index] = f"{name}.wide"
    widen = [helper.make_node("Cast", [n], [f"{n}.wide"], to=TensorProto.FLOAT) for n in past]
    narrow = [
        helper.make_node("Cast", [f"{n}.wide"], [n], to=TensorProto.BFLOAT16) for n in present
    ]
    nodes = [*widen, *graph.node, *narrow]
    del graph.node[:]
    graph.node.extend(nodes)
    for each in [*graph.input, *graph.output]:
        if each.name in past | present:
            each.type.tensor_type.elem_type = TensorProto.BFLOAT16
    onnx.save(model, file)


@pytest.fixture(params=[0, 8], ids=["plain", "captured"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    config, file = written(tmp_path, "bf16", vocab_size=4096, max_position_embeddings=256)
    widened(file, file, config)
    with_narrow_cache(file)
    return opened(file, capture_rows=request.param)


def opened(file: Path, capture_rows: int) -> Model:
    """As `load_model` opens it on CUDA, on what is taken for a device."""
    from penstock.engine.device_graph import DeviceGraph

    folder, graph = ModelFolder.locate(file), DeviceGraph(file)
    assert graph.lack() is None
    memory = FakeCudaMemory()
    session = FakeSession(graph.ready(), memory.library, captures=capture_rows > 0)
    signature = read_signature(session, "it", on_cuda=True)
    return Model(
        folder.home,
        folder.graph,
        session,
        signature,
        graph.layout,
        _spec(signature, graph.layout, Facts(folder), folder),
        "cuda",
        memory,
        graph.width,
        capture_rows,
    )


def test_a_number_of_kv_takes_two_bytes(model: Model) -> None:
    spec = model.spec
    assert model.signature.kv_type == BFLOAT16_TYPE
    assert spec.kv_bytes_per_token == 2 * 2 * spec.layers * spec.kv_heads * spec.head_dim
    engine = make_engine(model, slots=2)
    assert isinstance(model.memory, FakeCudaMemory)
    rows = sum(len(block) for block in model.memory.library.blocks.values())
    assert rows >= 2 * engine.max_len * spec.kv_bytes_per_token
    sequence, _ = start(engine, make_prompt(9))
    (first, *_) = engine.slots.copy_out(sequence.key, 0, 9).parts
    assert first.nbytes == 2 * 9 * spec.kv_heads * spec.head_dim


def test_what_lies_in_the_cache_is_bfloat16(model: Model) -> None:
    engine = make_engine(model, slots=2)
    sequence, _ = start(engine, make_prompt(9))
    (keys, *_) = engine.slots.copy_out(sequence.key, 0, 9).parts
    numbers = (keys.astype(np.uint32) << 16).view(np.float32)
    assert np.isfinite(numbers).all()
    assert 0.1 < np.abs(numbers).mean() < 10


def test_a_text_is_the_same_alone_in_company_and_after_an_eviction(model: Model) -> None:
    prompts = [make_prompt(9 + index, seed=index, max_tokens=6) for index in range(3)]
    expected = [alone(make_engine(model), prompt) for prompt in prompts]
    engine = make_engine(model, slots=3, parked_kv_bytes=1 << 24)
    started = [start(engine, prompt) for prompt in prompts]
    made = [[first] for _, first in started]
    for turn in range(5):
        if turn == 2:
            engine.evict(started[1][0])
            engine.admit(started[1][0])
        for index, result in enumerate(engine.step([sequence for sequence, _ in started])):
            made[index].append(sampled(result))
    assert made == expected
