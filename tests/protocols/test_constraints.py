"""Every way to say what an answer must look like, and what is refused before it is compiled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import INVALID_VALUE
from penstock.protocols.constraints import parse_choice, parse_tgi_grammar
from penstock.protocols.openai import parse_chat, parse_completion
from penstock.protocols.schemas import MAX_DEPTH, MAX_REFERENCES, OPTIONS, lean_schema
from penstock.requests import Grammar

from .asking import FUZZ, MARKER, chat, check_error, completion, refusal

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
WRAPPED = {"name": "x", "strict": True, "schema": SCHEMA}


def lean(text: str) -> Any:  # noqa: ANN401
    schema = json.loads(text)
    assert schema.pop("x-guidance") == OPTIONS
    return schema


def asked(**fields: object) -> Grammar:
    both = {parse_chat(chat(**fields)).request.grammar}
    both.add(parse_completion(completion(**fields)).request.grammar)
    (grammar,) = both
    assert grammar is not None
    return grammar


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": WRAPPED}}, "response_format"),
        ({"response_format": {"type": "json_object", "value": SCHEMA}}, "response_format"),
        ({"response_format": {"type": "json", "value": SCHEMA}}, "response_format"),
        ({"guided_json": SCHEMA}, "guided_json"),
        ({"guided_json": json.dumps(SCHEMA)}, "guided_json"),
    ],
)
def test_a_schema_is_the_same_wherever_it_stands(fields: dict[str, object], param: str) -> None:
    grammar = asked(**fields)
    assert (grammar.kind, grammar.param, lean(grammar.text)) == ("json", param, SCHEMA)


def test_other_forms() -> None:
    assert lean(asked(response_format={"type": "json_object"}).text) == {"type": "object"}
    # As huggingface_hub sent it up to 0.33.
    pattern = {"type": "regex", "value": "a|b"}
    assert asked(response_format=pattern) == Grammar("regex", "a|b", "response_format")
    assert asked(guided_regex="a|b") == Grammar("regex", "a|b", "guided_regex")
    assert asked(guided_grammar='start: "a"') == Grammar("lark", 'start: "a"', "guided_grammar")
    choice = 'start: "a\\"b" | "é\\n"'
    assert asked(guided_choice=['a"b', "é\n"]) == Grammar("lark", choice, "guided_choice")


@pytest.mark.parametrize("given", [None, {"type": "text"}])
def test_text_is_free(given: object) -> None:
    assert parse_chat(chat(response_format=given)).request.grammar is None


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json", "value": SCHEMA},
        {"type": "json_object", "value": json.dumps(SCHEMA)},
        {"type": "json_schema", "value": {"name": "x", "schema": SCHEMA}},
    ],
)
def test_tgis_grammar(given: dict[str, Any]) -> None:
    grammar = parse_tgi_grammar(given)
    assert grammar is not None
    assert (grammar.kind, grammar.param, lean(grammar.text)) == ("json", "grammar", SCHEMA)


def test_tgis_regex_and_what_is_neither() -> None:
    assert parse_tgi_grammar(None) is None
    assert parse_tgi_grammar({"type": "regex", "value": "a"}) == Grammar("regex", "a", "grammar")
    for other in ({}, {"type": "regex"}, {"type": MARKER, "value": "a"}, {"type": "json"}):
        assert refusal(parse_tgi_grammar, other).param == "grammar"


def test_notes_are_dropped_and_names_and_data_are_kept() -> None:
    schema = {
        "title": "x" * 5000,
        "x-guidance": {"lenient": True},
        "properties": {"title": {"type": "string", "description": MARKER}},
        "$defs": {"default": {"examples": [1], "type": "null"}},
        "enum": [{"title": "kept", "x-guidance": 1}],
        "required": ["title"],
    }
    assert lean(lean_schema(schema, "p")) == {
        "properties": {"title": {"type": "string"}},
        "$defs": {"default": {"type": "null"}},
        "enum": [{"title": "kept", "x-guidance": 1}],
        "required": ["title"],
    }


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


TOO_MUCH: list[tuple[dict[str, object], str]] = [
    ({"guided_json": nested(MAX_DEPTH + 1)}, "nested"),
    ({"guided_json": {"anyOf": [{"$ref": "#/a"}] * (MAX_REFERENCES + 1)}}, "references"),
    ({"guided_json": {"enum": ["x" * 3000]}}, "characters"),
    ({"guided_json": {"pattern": "x" * 3000}}, "characters"),
    ({"guided_json": {"properties": {"x" * 3000: {}}}}, "characters"),
    ({"guided_json": {"enum": ["x" * 2000] * 40}}, "KiB"),
    ({"guided_json": '{"const": "\\ud800"}'}, "surrogate"),
    ({"guided_json": "{"}, "JSON"),
    ({"guided_json": "[]"}, "object"),
    ({"guided_json": "[" * 100_000}, "JSON"),
    ({"guided_regex": ""}, "characters"),
    ({"guided_regex": "x" * 3000}, "characters"),
    ({"guided_choice": []}, "list"),
    ({"guided_choice": [""]}, "list"),
    ({"guided_choice": ["x"] * 2000}, "list"),
    ({"guided_choice": ["x" * 2000] * 10}, "characters"),
    ({"guided_grammar": ""}, "characters"),
    ({"guided_grammar": "x" * 20_000}, "characters"),
]


@pytest.mark.parametrize(("fields", "word"), TOO_MUCH)
def test_what_is_too_much_is_refused_by_name(fields: dict[str, object], word: str) -> None:
    error = refusal(parse_completion, completion(**fields))
    assert (error.kind, error.param) == (INVALID_VALUE, next(iter(fields)))
    assert word in error.message


def test_two_ways_at_once_are_refused() -> None:
    error = refusal(parse_chat, chat(guided_regex="a", response_format={"type": "json_object"}))
    assert error.param == "guided_regex"
    assert refusal(parse_chat, chat(guided_regex="a", guided_choice=["b"])).param == "guided_choice"


def test_a_choice_may_hold_anything_that_text_can() -> None:
    for text in ("\x00", "\u2028", '"\\', "/", "😀"):
        parse_choice([text], "guided_choice")


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
words = st.sampled_from(["properties", "enum", "$ref", "items", "title", "x-guidance"]) | st.text()
schemas = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=12
)


@given(schemas)
@FUZZ
def test_any_json_is_a_schema_or_refused(value: object) -> None:
    try:
        text = lean_schema(value, "guided_json")
    except Exception as error:
        check_error(error)  # type: ignore[arg-type]
    else:
        assert isinstance(lean(text), dict)
