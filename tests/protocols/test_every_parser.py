"""What every parser of a body must withstand, whatever its dialect: depth, surrogates, size."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import pytest

from penstock.errors import INVALID_JSON, PenstockError
from penstock.protocols import anthropic, openai, responses, tabby, tgi, tokens

from .asking import MARKER, check_error, refusal

Parser: TypeAlias = Callable[[bytes], object]

HI = [{"role": "user", "content": "Hi"}]
PARSERS: dict[str, tuple[Parser, dict[str, object]]] = {
    "chat": (openai.parse_chat, {"messages": HI}),
    "completion": (openai.parse_completion, {"prompt": "Hi"}),
    "responses": (responses.parse, {"input": "Hi"}),
    "tgi": (tgi.parse, {"inputs": "Hi"}),
    "tabby": (partial(tabby.parse, fills_gaps=True), {"segments": {"prefix": "Hi"}}),
    "anthropic": (anthropic.parse, {"messages": HI, "max_tokens": 5}),
    "count": (anthropic.parse_count, {"messages": HI}),
    "tokenize": (tokens.parse_tokenize, {"prompt": "Hi"}),
    "detokenize": (tokens.parse_detokenize, {"tokens": [1]}),
}
every_parser = pytest.mark.parametrize("name", PARSERS)


def as_body(fields: dict[str, object]) -> bytes:
    return json.dumps(fields).encode()


@every_parser
def test_unknown_fields_are_ignored(name: str) -> None:
    parse, good = PARSERS[name]
    assert parse(as_body(good | {"nobody_knows": {"this": [MARKER]}})) == parse(as_body(good))


@every_parser
@pytest.mark.parametrize("deep", ["[" * 10_000 + "]" * 10_000, '{"a":' * 10_000, "[" * 10_000])
def test_ten_thousand_levels_are_refused_wherever_they_are(name: str, deep: str) -> None:
    parse, good = PARSERS[name]
    for field in ("nobody_knows", *good):
        body = f'{{"{field}":{deep}}}'.encode()
        with pytest.raises(PenstockError) as caught:
            parse(body)
        check_error(caught.value)
    refusal(parse, deep.encode())


@every_parser
@pytest.mark.parametrize("escape", [r"\ud800", r"a\udfff", r"\ude00\ud83d"])
def test_a_lone_surrogate_is_refused(name: str, escape: str) -> None:
    parse, good = PARSERS[name]
    body = as_body(good | {"model": "?"}).replace(b'"?"', f'"{escape}"'.encode())
    assert refusal(parse, body).kind is INVALID_JSON
    if "Hi" in json.dumps(good):
        assert refusal(parse, as_body(good).replace(b"Hi", escape.encode())).kind is INVALID_JSON


@every_parser
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "01", "1e", "--1"])
def test_what_is_no_number_in_json_is_refused(name: str, number: str) -> None:
    parse, good = PARSERS[name]
    body = as_body(good | {"temperature": "?"}).replace(b'"?"', number.encode())
    assert refusal(parse, body).kind is INVALID_JSON


@every_parser
def test_a_name_of_a_megabyte_is_not_told_back(name: str) -> None:
    parse, good = PARSERS[name]
    long = MARKER * 50_000
    assert parse(as_body(good | {long: 1})) == parse(as_body(good))
    for field in good:
        refusal(parse, as_body({field: {long: long}}))
