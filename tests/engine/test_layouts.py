"""Models as other tools export them compute what transformers computes, in any arrangement."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime as ort
import pytest

from penstock.engine.engine import Engine
from penstock.engine.model import load_model
from penstock.engine.slots import Slots
from penstock.engine.tokenizer import load_tokenizer
from penstock.export import Dtype, export_model
from penstock.requests import Message, Prompt, Sampling
from tests.engine.layouts import (
    CASES,
    MODELS,
    Case,
    Logits,
    Rows,
    by_transformers,
    expected,
    opened,
)
from tests.export.checkpoints import TINY, write_checkpoint
from tests.peers import alone, sampled, start

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def assert_near(case: Case, got: Logits, wanted: Logits) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=case.tolerance)


@every_case
def test_a_layout_is_recognised(case: Case) -> None:
    model = opened(case.path)
    assert model.layout.in_place is case.in_place
    assert (model.spec.layers, model.spec.kv_heads, model.spec.head_dim) == (2, 2, 16)
    assert (model.spec.vocab_size, model.spec.max_positions) == (320, 128)
    assert model.spec.eos_ids == frozenset({1})
    assert model.spec.kv_dtype == (np.float16 if "fp16" in case.path else np.float32)
    # Where a file says nothing of the penalty, the builder of genai folders writes the neutral one.
    neutral = {"repetition_penalty": 1.0}
    assert neutral | dict(model.spec.defaults) == neutral | {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
    }


@every_case
def test_the_graph_is_what_transformers_computes(case: Case) -> None:
    """Asked of the files, before anything is asked of the code that runs them."""
    tokens, logits = by_transformers(case.reference)
    rows = Rows(opened(case.path))
    got = np.stack([rows.prefill(0, [token]) for token in tokens])
    assert np.corrcoef(got.ravel(), logits.ravel())[0, 1] > case.agreement


@every_case
@pytest.mark.parametrize("chunks", [[48], [16, 16, 16], [1, 30, 17]])
def test_a_prompt_agrees_with_the_reference_in_any_chunks(case: Case, chunks: list[int]) -> None:
    tokens, wanted = expected(case)
    rows, done = Rows(opened(case.path), slots=2), 0
    rows.prefill(0, tokens[:3])
    for count in chunks:
        logits = rows.prefill(1, tokens[done : done + count])
        done += count
        assert_near(case, logits, wanted[done - 1])


@every_case
def test_ragged_steps_with_parked_rows_agree_with_the_reference(case: Case) -> None:
    """Four sequences at different places of the text; at each step a different subset goes on."""
    tokens, wanted = expected(case)
    rows, at = Rows(opened(case.path)), {0: 1, 1: 20, 2: 5, 3: 11}
    for key, length in at.items():
        assert_near(case, rows.prefill(key, tokens[:length]), wanted[length - 1])
    generator = np.random.default_rng(7)
    for _ in range(24):
        chosen = [key for key in at if generator.random() < 0.6 and at[key] < len(tokens)]
        if not chosen:
            continue
        stepped = rows.step({key: int(tokens[at[key]]) for key in chosen})
        for key in chosen:
            assert_near(case, stepped[key], wanted[at[key]])
            at[key] += 1
    assert min(at.values()) > 8
    assert rows.slots.swaps > 3


@every_case
def test_the_engine_tells_what_a_plain_loop_over_the_graph_tells(case: Case) -> None:
    """Greedy tokens of two sequences stepped together equal those of whole runs from scratch."""
    model = opened(case.path)
    tokens, _ = expected(case)
    greedy = Sampling(temperature=0.0)
    prompts = [Prompt(tuple(tokens[:n].tolist()), 8, greedy, 0, ignore_eos=True) for n in (4, 9)]
    engine = Engine(model, slots=4, max_len=64, prefill_chunk=64)
    told = [[made.token_id for made in alone(engine, prompt)] for prompt in prompts]
    started = [start(engine, prompt) for prompt in prompts]
    sequences = [sequence for sequence, _ in started]
    together = [[first.token_id] for _, first in started]
    while len(together[0]) < min(map(len, told)):
        for tokens_of, made in zip(together, engine.step(sequences), strict=True):
            tokens_of.append(sampled(made).token_id)
    assert [each[: len(together[0])] for each in told] == together
    if case.agreement > 0.9999:
        for prompt, answer in zip(prompts, told, strict=True):
            assert answer == _from_scratch(case, prompt, len(answer))


def _from_scratch(case: Case, prompt: Prompt, count: int) -> list[int]:
    """No cache is kept: the whole text is run again for each token."""
    text = list(prompt.token_ids)
    for _ in range(count):
        text.append(int(Rows(opened(case.path), slots=1).prefill(0, text).argmax()))
    return text[len(prompt.token_ids) :]


@pytest.mark.parametrize("case", [c for c in CASES if "fp16" not in c.path], ids=str)
def test_a_prefix_may_be_copied_from_row_to_row(case: Case) -> None:
    """What an earlier sequence cached serves a later one with the same beginning."""
    tokens, _ = expected(case)
    rows = Rows(opened(case.path))
    rows.prefill(0, tokens[:16])
    alone_logits = rows.prefill(0, tokens[16:24])
    rows.slots.open(1)
    for buffer in rows.slots.buffers:
        buffer[1, :, :16] = buffer[0, :, :16]
    rows.slots.lengths[1] = 16
    np.testing.assert_array_equal(rows.prefill(1, tokens[16:24]), alone_logits)


@every_case
def test_a_terminated_prefill_leaves_the_row_as_it_was(case: Case) -> None:
    tokens, _ = expected(case)
    rows = Rows(opened(case.path))
    rows.prefill(0, tokens[:10])
    options = ort.RunOptions()
    options.terminate = True
    options.log_severity_level = 4
    with pytest.raises(Exception, match=r"(?i)terminate"):
        rows.batch.prefill(0, tokens[10:20], options)
    assert rows.slots.lengths[0] == 10
    options.terminate = False
    again = rows.batch.prefill(0, tokens[10:20], options).copy()
    other = Rows(opened(case.path))
    other.prefill(0, tokens[:10])
    np.testing.assert_array_equal(again, other.prefill(0, tokens[10:20]))
    assert rows.slots.lengths[0] == 20


def test_rows_are_not_padded_where_the_graph_is_told_no_positions() -> None:
    """Without position_ids a graph may count padding, so only rows of one length go together."""
    model = opened("optimum_llama")
    rows = Rows(model)
    assert model.signature.can_pad
    rows.batch._signature = _without_positions(rows)  # type: ignore[attr-defined]
    for key, length in enumerate((3, 7, 3, 1)):
        rows.slots.lengths[rows.slots.open(key)] = length
    groups = [group.tolist() for group in rows.batch._runs(4)]  # type: ignore[attr-defined]
    assert groups == [[3], [0, 2], [1]]


def _without_positions(rows: Rows) -> object:
    import dataclasses

    signature = rows.batch._signature  # type: ignore[attr-defined]
    tokens = {name: kind for name, kind in signature.tokens.items() if name != "position_ids"}
    return dataclasses.replace(signature, tokens=tokens)


@pytest.mark.parametrize("dtype", [each for each in get_args(Dtype) if each != "bf16"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_an_export_of_our_own_is_served_in_place(
    tmp_path: Path, model_type: str, dtype: Dtype
) -> None:
    """Ragged steps give what whole prompts give, but for the rounding of chunks."""
    write_checkpoint(tmp_path / "source", {**TINY, "model_type": model_type})
    export_model(tmp_path / "source", tmp_path / "out", dtype=dtype)
    model = load_model(tmp_path / "out", threads=1)
    assert (model.layout.in_place, model.layout.last_only) == (True, True)
    rows, texts = Rows(model), {0: [3, 1, 4, 1, 5], 1: [9, 2, 6]}
    for key, text in texts.items():
        rows.prefill(key, text[:-1])
    stepped = rows.step({key: text[-1] for key, text in texts.items()})
    for key, text in texts.items():
        whole = Rows(model).prefill(0, text)
        np.testing.assert_allclose(stepped[key], whole, atol=1e-4 if dtype == "fp32" else 0.3)


def test_slots_hold_what_the_model_computes_in() -> None:
    spec = opened("genai_fp16").spec
    assert all(b.dtype == np.float16 for b in Slots(spec, slots=1, max_len=4).buffers)


@pytest.mark.parametrize("path", ["optimum_llama", "genai_fp32", "transformers_js/onnx/model.onnx"])
def test_the_tokenizer_and_template_are_found_beside_or_above(path: str) -> None:
    tokenizer = load_tokenizer(MODELS / path)
    ids = tokenizer.encode_chat([Message("user", "def")])
    assert ids[0] == 0
    assert 1 in ids
    assert opened(path).folder == MODELS / Path(path).parts[0]
