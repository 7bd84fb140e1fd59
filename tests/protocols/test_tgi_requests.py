"""What may be asked of TGI's routes, and how the rest is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import INTERNAL, INVALID_JSON, KINDS, OVERLOADED, PenstockError
from penstock.protocols.tgi import Asked, parse, tell_error
from penstock.requests import GenerateRequest, Sampling

from .asking import ERROR_LIMIT, FUZZ, MARKER, check_error, refusal

GREEDY = Sampling(temperature=0.0)
EVERYTHING: dict[str, Any] = {
    "max_new_tokens": 5,
    "do_sample": True,
    "temperature": 0.5,
    "top_k": 40,
    "top_p": 0.9,
    "typical_p": 1.0,
    "seed": 3,
    "stop": ["a", "b"],
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.2,
    "return_full_text": True,
    "details": True,
    "decoder_input_details": False,
    "best_of": 1,
    "truncate": 7,
    "watermark": False,
    "top_n_tokens": 0,
    "ignore_eos": True,
}


def body(inputs: object = "Hi", **parameters: object) -> bytes:
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode()


def test_the_least_that_can_be_asked_is_greedy() -> None:
    request = GenerateRequest(prompt="Hi", sampling=GREEDY)
    assert parse(b'{"inputs":"Hi"}') == Asked(request, stream=False, details=False)
    assert parse(b'{"inputs":"Hi","parameters":null,"stream":null}').request == request
    nothing = dict.fromkeys(EVERYTHING)
    assert parse(body(**nothing)).request == request


def test_everything_that_can_be_asked() -> None:
    request = GenerateRequest(
        prompt="Hi",
        max_tokens=5,
        sampling=Sampling(
            temperature=0.5,
            top_k=40,
            top_p=0.9,
            repetition_penalty=1.1,
            frequency_penalty=0.2,
            seed=3,
        ),
        stop=("a", "b"),
        ignore_eos=True,
        logprobs=0,
        truncate=7,
    )
    assert parse(body(**EVERYTHING)) == Asked(request, False, True, "Hi")


@pytest.mark.parametrize(
    ("parameters", "greedy"),
    [
        ({}, True),
        ({"do_sample": False}, True),
        ({"seed": 1}, True),
        ({"do_sample": True}, False),
        ({"temperature": 0.5}, False),
    ],
)
def test_without_do_sample_and_temperature_it_is_greedy(
    parameters: dict[str, object], greedy: bool
) -> None:
    assert parse(body(**parameters)).request.sampling.greedy is greedy


def test_the_route_wins_over_the_bodys_stream() -> None:
    asked = b'{"inputs":"Hi","stream":true}'
    assert [parse(asked, stream=stream).stream for stream in (None, True, False)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": -0.5}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0}, "top_p"),
        ({"truncate": 0}, "truncate"),
        ({"seed": -1}, "seed"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"best_of": 2}, "best_of"),
        ({"decoder_input_details": True}, "decoder_input_details"),
        ({"top_n_tokens": 1}, "top_n_tokens"),
        ({"typical_p": 0.9}, "typical_p"),
        ({"watermark": True}, "watermark"),
        ({"grammar": {"type": "regex"}}, "grammar"),
        ({"adapter_id": MARKER}, "adapter_id"),
        ({"max_new_tokens": MARKER}, "parameters.max_new_tokens"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_422_and_names_the_parameter(
    parameters: dict[str, object], param: str
) -> None:
    error = refusal(parse, body(**parameters))
    assert error.param == param
    status, told = tell_error(error)
    assert (status, json.loads(told)["error_type"]) == (422, "validation")
    assert param in json.loads(told)["error"]


@pytest.mark.parametrize("inputs", [None, "", 5, ["a"]])
def test_inputs_are_one_text(inputs: object) -> None:
    assert refusal(parse, body(inputs)).param == "inputs"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_error_is_two_strings(kind: Any) -> None:  # noqa: ANN401
    status, told = tell_error(PenstockError(kind, "é" * 5000))
    assert set(json.loads(told)) == {"error", "error_type"}
    assert len(told) < ERROR_LIMIT
    assert 400 <= status < 500


def test_errors_are_told_apart_by_their_type() -> None:
    def told(error: PenstockError) -> tuple[int, str]:
        status, text = tell_error(error)
        return status, json.loads(text)["error_type"]

    assert told(PenstockError(OVERLOADED, "full")) == (429, "overloaded")
    assert told(PenstockError(INTERNAL, "broken")) == (424, "generation")
    assert told(refusal(parse, b"{")) == (422, "validation")
    assert refusal(parse, b"{").kind is INVALID_JSON


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)


def attempt(given: bytes) -> Asked | None:
    try:
        return parse(given)
    except PenstockError as error:
        check_error(error)
        return None


@FUZZ
@given(
    changes=st.dictionaries(st.sampled_from([*EVERYTHING, "grammar", "adapter_id"]), values),
    inputs=leaves,
)
def test_any_parameters_give_a_request_or_one_error(
    changes: dict[str, object], inputs: object
) -> None:
    asked = attempt(body(inputs, **(EVERYTHING | changes)))
    if asked is not None:
        assert asked.request.prompt == inputs


@FUZZ
@given(given_bytes=st.binary() | st.text().map(str.encode))
def test_any_bytes_give_a_request_or_one_error(given_bytes: bytes) -> None:
    attempt(given_bytes)
