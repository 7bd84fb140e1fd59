"""Requests that are not JSON, not of the right type, or cannot be done: refused by name."""

from __future__ import annotations

import json

import pytest

from penstock.errors import INVALID_JSON, INVALID_VALUE, UNSUPPORTED
from penstock.protocols.openai import parse_chat, parse_completion

from .asking import MARKER, chat, completion, refusal

NONSENSE: dict[str, list[object]] = {
    "response_format": [{"type": "json_schema"}, {"type": MARKER}, {"value": {}}],
    "tool_choice": ["required", MARKER, {}, {"type": "function", "function": {"name": MARKER}}],
}


@pytest.mark.parametrize("field", NONSENSE)
def test_what_an_answer_must_be_is_refused_where_it_makes_no_sense(field: str) -> None:
    for value in NONSENSE[field]:
        error = refusal(parse_chat, chat(**{field: value}))
        assert error.kind is INVALID_VALUE, value
        assert str(error.param).startswith(field), value


@pytest.mark.parametrize("template", [MARKER, ""])
def test_a_template_of_the_client_is_refused(template: str) -> None:
    error = refusal(parse_chat, chat(chat_template=template))
    assert (error.kind, error.param) == (UNSUPPORTED, "chat_template")


@pytest.mark.parametrize("choice", [{"name": "f"}, "f"])
def test_a_function_that_must_be_called_the_old_way_is_refused(choice: object) -> None:
    """`functions` alone is like `tools` that the model need not call."""
    old = {"functions": [{"name": "f", "parameters": {}}]}
    error = refusal(parse_chat, chat(**old, function_call=choice))
    assert (error.kind, error.param) == (UNSUPPORTED, "function_call")
    for free in ("auto", "none", None):
        assert parse_chat(chat(**old, function_call=free)).request.tools is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("best_of", 2)],
)
def test_what_a_text_completion_refuses(field: str, value: object) -> None:
    error = refusal(parse_completion, completion(**{field: value}))
    assert (error.kind, error.param) == (UNSUPPORTED, field)


def test_an_echo_has_no_log_probabilities() -> None:
    error = refusal(parse_completion, completion(echo=True, logprobs=0))
    assert (error.kind, error.param) == (UNSUPPORTED, "echo")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": 1}, "stream"),
        ({"stream": MARKER}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"model": 5}, "model"),
        ({"ignore_eos": 0}, "ignore_eos"),
        ({"logit_bias": {MARKER: MARKER}}, "logit_bias[...]"),
        ({"response_format": MARKER}, "response_format"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"chat_template_kwargs": {MARKER: []}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {MARKER: None}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": [MARKER]}, "chat_template_kwargs"),
    ],
)
def test_a_wrong_type_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    error = refusal(parse_chat, chat(**fields))
    assert (error.kind, error.param) == (INVALID_VALUE, param)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nul", b"\xff", b"\xef\xbb\xbf{}", b"{'a': 1}", b"{}{}"]
)
def test_a_body_that_is_not_json(body: bytes) -> None:
    for parse in (parse_chat, parse_completion):
        assert refusal(parse, body).kind is INVALID_JSON


@pytest.mark.parametrize("value", [None, 5, "x", [], [{}], True])
def test_json_that_is_not_an_object(value: object) -> None:
    error = refusal(parse_chat, json.dumps(value).encode())
    assert (error.kind, error.param) == (INVALID_JSON, None)
    assert error.message == "the request must be a JSON object"


def test_messages_say_what_was_expected_in_the_words_of_json() -> None:
    def told(**fields: object) -> str:
        return refusal(parse_chat, chat(**fields)).message

    assert told(max_tokens=0) == "max_tokens must be at least 1 and at most 1048576"
    assert told(top_p=0) == "top_p must be above 0 and at most 1"
    assert told(stop=1) == "stop: expected string | array | null, got integer"
    assert told(messages=[{}]) == "messages[0].role: is required"
    assert told(tool_choice="x") == ("tool_choice must be auto, none, required, or name a function")
    assert told(n=0) == "n must be at least 1 and at most 128"
