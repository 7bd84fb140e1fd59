"""What /tokenize and /detokenize take, refuse and answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock.protocols.tokens import parse_detokenize, parse_tokenize, render_tokens
from penstock.requests import GenerateRequest, Message

from .asking import FUZZ, MARKER, check_error, refusal

HI = [{"role": "user", "content": "Hi"}]


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_prompt_or_messages_can_be_tokenised() -> None:
    assert parse_tokenize(body(prompt="Hi", model="m")) == (
        GenerateRequest(prompt="Hi", model="m"),
        False,
    )
    asked = body(messages=HI, return_token_strs=True, chat_template_kwargs={"a": 1})
    messages = (Message("user", "Hi"),)
    assert parse_tokenize(asked) == (
        GenerateRequest(messages=messages, template_options=(("a", 1),)),
        True,
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"messages": []}, "messages"),
        ({"prompt": "Hi", "messages": HI}, "messages"),
        ({"prompt": "Hi", "add_special_tokens": False}, "add_special_tokens"),
        ({"messages": HI, "chat_template": MARKER}, "chat_template"),
    ],
    ids=str,
)
def test_what_tokenize_refuses(fields: dict[str, object], param: str) -> None:
    assert refusal(parse_tokenize, body(**fields)).param == param


@pytest.mark.parametrize("tokens", [None, [], [-1], [1, -(2**70)], ["a"], [0.5], [True], "12"])
def test_what_detokenize_refuses(tokens: object) -> None:
    assert refusal(parse_detokenize, body(tokens=tokens)).param in ("tokens", "tokens[0]")


def test_the_answer_counts_and_names_tokens() -> None:
    assert render_tokens([5, 6], max_len=9, names=None) == {
        "count": 2,
        "max_model_len": 9,
        "tokens": [5, 6],
    }
    assert render_tokens([5], max_len=9, names=["a"])["token_strs"] == ["a"]


@FUZZ
@given(given_bytes=st.binary() | st.text().map(str.encode))
def test_any_bytes_give_a_request_or_one_error(given_bytes: bytes) -> None:
    for parse in (parse_tokenize, parse_detokenize):
        try:
            parse(given_bytes)
        except PenstockError as error:
            check_error(error)
