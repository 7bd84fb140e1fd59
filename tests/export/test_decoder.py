"""The exported graph computes what the architecture's definition says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from . import reference
from .conftest import Exported
from .slots import Slots, session

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 50, 24)]
TOLERANCE = 1e-4


@pytest.fixture
def expected(exported: Exported) -> NDArray[np.floating]:
    found = reference.logits(exported.tensors, exported.config, TOKENS, reference.in_float64)
    assert found.std() > 0.5, "logits near zero would agree with anything"
    return found


@pytest.mark.parametrize("length", [1, 2, 24])
def test_prefill_agrees_with_the_definition(
    exported: Exported, expected: NDArray[np.floating], length: int
) -> None:
    slots = Slots(session(exported.model("fp32")), slots=1, capacity=32)
    got = slots.prefill(0, TOKENS[:length])
    np.testing.assert_allclose(got, expected[length - 1], atol=TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_decode_step_agrees_with_the_definition(
    exported: Exported, expected: NDArray[np.floating], threads: int
) -> None:
    slots = Slots(session(exported.model("fp32"), threads), slots=1, capacity=32)
    slots.prefill(0, TOKENS[:7])
    got = [slots.step([token])[0] for token in TOKENS[7:]]
    np.testing.assert_allclose(got, expected[7:], atol=TOLERANCE)


def test_a_prompt_in_chunks_agrees_with_the_definition(
    exported: Exported, expected: NDArray[np.floating]
) -> None:
    slots = Slots(session(exported.model("fp32")), slots=2, capacity=32)
    got = [slots.prefill(1, TOKENS[start : start + 8]) for start in (0, 8, 16)]
    np.testing.assert_allclose(got, expected[[7, 15, 23]], atol=TOLERANCE)


def test_the_last_position_of_the_context_is_usable(exported: Exported) -> None:
    tokens = (TOKENS * 3)[:64]
    assert len(tokens) == exported.config["max_position_embeddings"]
    expected = reference.logits(exported.tensors, exported.config, tokens, reference.in_float64)
    slots = Slots(session(exported.model("fp32")), slots=1, capacity=64)
    slots.prefill(0, tokens[:-1])
    np.testing.assert_allclose(slots.step(tokens[-1:])[0], expected[-1], atol=TOLERANCE)
