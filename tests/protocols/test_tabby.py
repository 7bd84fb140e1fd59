"""Tabby's completions: told apart from OpenAI's, parsed, and answered in a few bytes."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import INVALID_VALUE, PenstockError, internal
from penstock.events import Delta, Failed, Finished, Usage
from penstock.protocols.tabby import Encoder, is_tabby, parse, render_health
from penstock.requests import GenerateRequest, Sampling

from .asking import FUZZ, MARKER, check_error, refusal

SEGMENTS = {"prefix": "def f():\n    ", "suffix": "\n", "filepath": "a.py", "declarations": [{}]}


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("fields", "tabby"),
    [
        ({"segments": SEGMENTS}, True),
        ({"prompt": None, "segments": SEGMENTS}, True),
        ({"segments": 5}, True),
        ({"debug_options": {"raw_prompt": "x"}}, True),
        ({"prompt": "Hi", "segments": SEGMENTS}, False),
        ({"prompt": "Hi"}, False),
        ({"language": "python"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_prompt_is_openais_and_segments_are_tabbys(
    fields: dict[str, object], tabby: bool
) -> None:
    assert is_tabby(body(**fields)) is tabby


def test_what_is_not_an_object_is_left_to_openai() -> None:
    for given_bytes in (b"", b"[]", b"{", b"\xff", b"[" * 10_000):
        assert not is_tabby(given_bytes)


def test_both_sides_of_the_cursor_make_a_gap() -> None:
    asked = body(language="python", segments=SEGMENTS, user="me", temperature=0.2, seed=3)
    assert parse(asked, fills_gaps=True) == GenerateRequest(
        prompt="def f():\n    ",
        suffix="\n",
        max_tokens=64,
        sampling=Sampling(temperature=0.2, seed=3),
    )


@pytest.mark.parametrize(
    ("segments", "fills_gaps"),
    [(SEGMENTS, False), ({"prefix": SEGMENTS["prefix"]}, True), (SEGMENTS | {"suffix": ""}, True)],
)
def test_without_a_gap_to_fill_a_double_newline_ends_it(
    segments: dict[str, object], fills_gaps: bool
) -> None:
    request = parse(body(segments=segments), fills_gaps=fills_gaps)
    assert (request.prompt, request.suffix, request.stop) == ("def f():\n    ", None, ("\n\n",))
    assert request.sampling.temperature == 0.1


def test_a_raw_prompt_is_taken_as_it_is() -> None:
    request = parse(body(debug_options={"raw_prompt": "<x>"}, segments=SEGMENTS), fills_gaps=True)
    assert (request.prompt, request.suffix) == ("<x>", None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"segments": {}}, "segments.prefix"),
        ({"segments": {"prefix": None}}, "segments.prefix"),
        ({"segments": {"prefix": 5}}, "segments.prefix"),
        ({"segments": MARKER}, "segments"),
        ({"debug_options": {}}, "segments"),
        ({"segments": SEGMENTS, "temperature": -1}, "temperature"),
        ({"segments": SEGMENTS, "seed": 2**70}, "seed"),
    ],
    ids=str,
)
def test_refusals_name_the_field(fields: dict[str, object], param: str) -> None:
    error = refusal(partial(parse, fills_gaps=True), body(**fields))
    assert (error.kind, error.param) == (INVALID_VALUE, param)


def test_the_answer_is_an_id_and_one_choice() -> None:
    encoder = Encoder("2")
    assert encoder.encode(Delta("return", (), 1)) == encoder.encode(Delta(" é", (), 2)) == b""
    told = encoder.encode(Finished("stop", Usage(1, 2), 2))
    assert told == b'{"id":"cmpl-2","choices":[{"index":0,"text":"return \\u00e9"}]}'
    assert json.loads(Encoder("2").encode(Failed(internal())))["error"]["code"] == "internal_error"


def test_health_has_what_the_agent_reads() -> None:
    told = render_health("default", device="cpu", machine="x86_64", cpus=2)
    assert (told["model"], told["device"], told["cpu_count"]) == ("default", "cpu", 2)
    assert told["version"]["git_describe"].startswith("v0.")
    assert len(told["version"]["git_sha"]) == 40


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)


@FUZZ
@given(
    segments=values | st.fixed_dictionaries({}, optional={"prefix": values, "suffix": values}),
    rest=st.fixed_dictionaries({}, optional={"temperature": values, "debug_options": values}),
)
def test_any_segments_give_a_request_or_one_error(segments: Any, rest: dict[str, Any]) -> None:  # noqa: ANN401
    given_bytes = body(segments=segments, **rest)
    try:
        request = parse(given_bytes, fills_gaps=True)
    except PenstockError as error:
        check_error(error)
    else:
        assert request.prompt is not None
