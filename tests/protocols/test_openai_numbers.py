"""Numbers in a request: bounds, types, and what JSON or Python cannot hold."""

from __future__ import annotations

import pytest

from penstock.errors import CONTEXT_LENGTH, INVALID_JSON, INVALID_VALUE
from penstock.protocols.common import MAX_BIASES
from penstock.protocols.openai import parse_chat, parse_completion

from .asking import MARKER, chat, completion, refusal

HUGE = [2**31, 2**63, 2**64, -(2**63) - 1, 10**400]
OTHER_TYPES: list[object] = [MARKER, "1", [], {}, [1], True]
BAD_NUMBERS: dict[str, list[object]] = {
    "max_tokens": [0, -1, 1.0, 1.5, *HUGE],
    "max_completion_tokens": [0, -1, 1.0, *HUGE],
    "temperature": [-0.1, 2.0001, 1e308, *HUGE],
    "top_p": [0, -0.1, 1.1, *HUGE],
    "top_k": [-2, 1.0, *HUGE],
    "seed": [1.0, 2**63, -(2**63) - 1, 10**400],
    "n": [0, -1, 1.0, 129, 16384, *HUGE],
    "frequency_penalty": [-2.1, 2.1, *HUGE],
    "presence_penalty": [-2.1, 2.1, *HUGE],
    "repetition_penalty": [0, 0.009, 10.1, -1, *HUGE],
    "min_p": [-0.1, 1.1, -1, *HUGE],
    "top_logprobs": [1, 20, 21, -1, 1.0, *HUGE],
}


@pytest.mark.parametrize("field", BAD_NUMBERS)
def test_a_bad_number_is_refused_by_name(field: str) -> None:
    for value in [*BAD_NUMBERS[field], *OTHER_TYPES]:
        error = refusal(parse_chat, chat(**{field: value}))
        assert (error.kind.status, error.param) == (400, field), value
        assert field in error.message


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_more_tokens_than_any_context_holds(field: str) -> None:
    """Clients shorten a conversation by this code, before a model is asked or after."""
    for value in (2**20 + 1, 10**9, 2**63):
        error = refusal(parse_chat, chat(**{field: value}))
        assert (error.kind, error.param) == (CONTEXT_LENGTH, field), value


@pytest.mark.parametrize(
    "constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "+1"]
)
@pytest.mark.parametrize("field", ["temperature", "top_p", "max_tokens", "seed", "min_p"])
def test_numbers_that_json_does_not_have(field: str, constant: str) -> None:
    body = chat(**{field: "?"}).replace(b'"?"', constant.encode())
    assert refusal(parse_chat, body).kind in (INVALID_JSON, INVALID_VALUE)


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1" + "0" * 100_000])
@pytest.mark.parametrize("field", ["max_tokens", "seed", "temperature", "n", "top_logprobs"])
def test_numbers_longer_than_python_converts(field: str, number: str) -> None:
    body = chat(**{field: "?"}).replace(b'"?"', number.encode())
    assert refusal(parse_chat, body).kind.status == 400


@pytest.mark.parametrize(
    ("temperature", "greedy"), [(0, True), (-0.0, True), (1e-45, True), (1e-6, False), (2, False)]
)
def test_temperatures_that_single_precision_takes_for_zero_are_greedy(
    temperature: float, greedy: bool
) -> None:
    assert parse_chat(chat(temperature=temperature)).request.sampling.greedy is greedy


@pytest.mark.parametrize(("seed", "bits"), [(0, 0), (2**63 - 1, 2**63 - 1), (-1, 2**64 - 1)])
def test_a_signed_seed_keeps_its_bits(seed: int, bits: int) -> None:
    assert parse_completion(completion(seed=seed)).request.sampling.seed == bits


@pytest.mark.parametrize("best_of", [0, -3])
def test_best_of_below_one_is_refused(best_of: int) -> None:
    assert refusal(parse_completion, completion(best_of=best_of)).param == "best_of"


@pytest.mark.parametrize("logprobs", [-1, 21, 1.0, True, "1", 10**400])
def test_logprobs_of_a_text_completion_are_a_number_to_20(logprobs: object) -> None:
    assert refusal(parse_completion, completion(logprobs=logprobs)).param == "logprobs"


@pytest.mark.parametrize("top_logprobs", [21, -1, 1.0, "1", True])
def test_top_logprobs_of_a_chat_are_a_number_to_20(top_logprobs: object) -> None:
    error = refusal(parse_chat, chat(logprobs=True, top_logprobs=top_logprobs))
    assert error.param == "top_logprobs"


def test_top_logprobs_say_what_they_need() -> None:
    error = refusal(parse_chat, chat(top_logprobs=3))
    assert error.message == "top_logprobs needs logprobs to be true"


@pytest.mark.parametrize(
    "bias",
    [
        {MARKER: 1},
        {"-1": 1},
        {"05": 1},
        {" 5": 1},
        {"\u0661": 1},
        {"5.0": 1},
        {"": 1},
        {"9" * 5000: 1},
        {"5": 100.1},
        {"5": -101},
        {"5": 10**400},
        {"5": None},
        {"5": True},
        {"5": "1"},
        {str(token_id): 1 for token_id in range(MAX_BIASES + 1)},
    ],
)
def test_a_bad_logit_bias_is_refused_by_name(bias: object) -> None:
    error = refusal(parse_chat, chat(logit_bias=bias))
    assert error.kind is INVALID_VALUE
    assert str(error.param).startswith("logit_bias")
