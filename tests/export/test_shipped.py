"""The model in models/default is what its files say it is."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import Tokenizer

from penstock.export.config import DecoderConfig

from . import reference
from .checkpoints import shapes
from .slots import Slots, session
from .test_int8row import check_batch_invariance

DEFAULT = Path(__file__).parents[2] / "models" / "default"
TEXT = "<|endoftext|>Once upon a time, there was a little girl named Lily. She loved to play."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEFAULT / "tokenizer.json"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, NDArray[np.float32]]:
    """The checkpoint's tensors as far as int8 kept them, read back out of model.onnx."""
    stored = {
        each.name: numpy_helper.to_array(each)
        for each in onnx.load(DEFAULT / "model.onnx").graph.initializer
    }
    config = DecoderConfig.read(DEFAULT)
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim

    def matrix(name: str) -> NDArray[np.float32]:
        values: NDArray[np.float32] = stored[f"{name}.weight"] * stored[f"{name}.weight_scale"]
        return values.T

    found = {
        "model.embed_tokens.weight": stored["embedding"] * stored["embedding.scale"],
        "model.norm.weight": stored["norm.weight"],
    }
    for layer in range(config.layers):
        at = f"layers.{layer}"
        packed = np.split(matrix(f"{at}.self_attn.qkv"), [queries, queries + keys])
        for name, part in zip("qkv", packed, strict=True):
            found[f"model.{at}.self_attn.{name}_proj.weight"] = part
        found[f"model.{at}.self_attn.o_proj.weight"] = matrix(f"{at}.self_attn.output")
        for name in ("gate", "up", "down"):
            found[f"model.{at}.mlp.{name}_proj.weight"] = matrix(f"{at}.mlp.{name}")
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"model.{at}.{name}.weight"] = stored[f"{at}.{name}.weight"]
    return found


def test_it_computes_what_the_definition_says_about_its_weights(
    tensors: dict[str, NDArray[np.float32]], tokenizer: Tokenizer
) -> None:
    config = json.loads((DEFAULT / "config.json").read_text())
    assert {name: each.shape for name, each in tensors.items()} == shapes(config)
    tokens = tokenizer.encode(TEXT).ids
    expected = reference.logits(tensors, config, tokens, reference.in_int8_rows)[4:]
    exact = reference.logits(tensors, config, tokens, reference.in_float64)[4:]
    slots = Slots(session(DEFAULT / "model.onnx"), slots=1, capacity=64)
    prefilled = slots.prefill(0, tokens[:5])
    got = np.stack([prefilled, *(slots.step([token])[0] for token in tokens[5:])])
    errors, quantisation = np.abs(got - expected), np.abs(exact - expected).max()
    assert len(got) > 10
    assert expected.std() > 1
    # A value on the edge between two integers may fall either way, so a few logits may be off.
    assert np.median(errors) < 1e-4
    assert errors.max() < quantisation


def test_it_knows_how_a_story_goes_on(tokenizer: Tokenizer) -> None:
    slots = Slots(session(DEFAULT / "model.onnx"), slots=1, capacity=64)
    logits = slots.prefill(0, tokenizer.encode("<|endoftext|>Once upon a time").ids)
    told: list[int] = []
    while len(told) < 12:
        told.append(int(logits.argmax()))
        logits = slots.step(told[-1:])[0]
    assert tokenizer.decode(told).startswith(", there was a little")


@pytest.mark.slow
def test_its_rows_do_not_depend_on_their_neighbours() -> None:
    check_batch_invariance(DEFAULT / "model.onnx", threads=2, vocab=4096, longest=60)


def test_its_special_tokens_are_single_tokens(tokenizer: Tokenizer) -> None:
    names = ["endoftext", "system", "user", "assistant", "end"]
    names += ["fim_prefix", "fim_suffix", "fim_middle"]
    assert [tokenizer.encode(f"<|{name}|>").ids for name in names] == [[i] for i in range(8)]
    assert tokenizer.get_vocab_size() == DecoderConfig.read(DEFAULT).vocab


def test_its_chat_template_is_the_same_in_both_places() -> None:
    settings = json.loads((DEFAULT / "tokenizer_config.json").read_text())
    assert (DEFAULT / "chat_template.jinja").read_text() == settings["chat_template"]


def test_it_is_small_enough_to_carry() -> None:
    assert sum(file.stat().st_size for file in DEFAULT.iterdir()) < 20_000_000
