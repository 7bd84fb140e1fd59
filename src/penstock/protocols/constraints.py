"""How an answer must look, in every way that clients ask for it, as one `Grammar` or none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.errors import invalid
from penstock.protocols.common import SamplingBody
from penstock.protocols.schemas import (
    MAX_LITERAL_CHARACTERS,
    lean_schema,
    literal,
    parse_json,
)
from penstock.requests import Grammar

MAX_GRAMMAR_CHARACTERS = 16 << 10
MAX_CHOICES = 1024

FORMATS = "response_format.type must be text, json_object or json_schema"


class GuidedBody(SamplingBody):
    """The fields by which other servers know them."""

    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    response_format: dict[str, Any] | None = None


def parse_response_format(given: Mapping[str, Any] | None) -> Grammar | None:
    """OpenAI's `response_format`, or what huggingface_hub makes of it: `{type, value}`.

    Its types were json and regex up to 0.33.
    """
    match given:
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return parse_schema(schema, "response_format")
        case {"type": "json" | "json_object" | "json_schema", "value": dict() as schema}:
            return parse_schema(schema, "response_format")
        case {"type": "regex", "value": str(pattern)}:
            return parse_regex(pattern, "response_format")
        case {"type": "json_schema"}:
            raise invalid("response_format", "response_format.json_schema.schema is required")
        case {"type": "json_object"}:
            return parse_schema({"type": "object"}, "response_format")
        case _:
            raise invalid("response_format.type", FORMATS)


def parse_grammar(body: GuidedBody) -> Grammar | None:
    """At most one of all fields that bind the answer."""
    return only_one(parse_response_format(body.response_format), parse_guided(body))


def parse_guided(body: GuidedBody) -> Grammar | None:
    """At most one of the guided fields."""
    schema = body.guided_json
    if isinstance(schema, str):
        schema = parse_json(schema, "guided_json")  # type: ignore[assignment]
    return only_one(
        None if schema is None else parse_schema(schema, "guided_json"),
        None if body.guided_regex is None else parse_regex(body.guided_regex, "guided_regex"),
        None if body.guided_choice is None else parse_choice(body.guided_choice, "guided_choice"),
        None if body.guided_grammar is None else parse_lark(body.guided_grammar, "guided_grammar"),
    )


def parse_tgi_grammar(given: Mapping[str, Any] | None) -> Grammar | None:
    """TGI's `parameters.grammar`: `{type, value}`, a schema or a regular expression."""
    match given:
        case None:
            return None
        case {"type": "regex", "value": str(pattern)}:
            return parse_regex(pattern, "grammar")
        case {"type": "json_schema", "value": {"schema": dict() as schema}}:
            return parse_schema(schema, "grammar")
        case {"type": "json" | "json_object" | "json_schema", "value": str(text)}:
            return parse_schema(parse_json(text, "grammar"), "grammar")
        case {"type": "json" | "json_object" | "json_schema", "value": schema}:
            return parse_schema(schema, "grammar")
        case _:
            raise invalid("grammar", "grammar must have a type, json or regex, and a value")


def only_one(*grammars: Grammar | None) -> Grammar | None:
    """The one that was given, of several ways to give it."""
    given = [grammar for grammar in grammars if grammar is not None]
    if len(given) > 1:
        one, other = given[0].param, given[1].param
        raise invalid(other, f"give either {one} or {other}, not both")
    return given[0] if given else None


def parse_schema(schema: object, param: str) -> Grammar:
    """A JSON schema that the answer satisfies."""
    return Grammar("json", lean_schema(schema, param), param)


def parse_regex(pattern: str, param: str) -> Grammar:
    """A regular expression that the whole answer matches."""
    if not 0 < len(pattern) <= MAX_LITERAL_CHARACTERS:
        raise invalid(param, f"{param} must have 1 to {MAX_LITERAL_CHARACTERS} characters")
    return Grammar("regex", pattern, param)


def parse_choice(choices: Sequence[str], param: str) -> Grammar:
    """One of several answers."""
    if not 0 < len(choices) <= MAX_CHOICES or not all(choices):
        raise invalid(param, f"{param} must be a list of 1 to {MAX_CHOICES} strings, none empty")
    if sum(map(len, choices)) > MAX_GRAMMAR_CHARACTERS:
        raise invalid(param, f"{param} has over {MAX_GRAMMAR_CHARACTERS} characters")
    rules = " | ".join(quote(literal(choice, param)) for choice in choices)
    return Grammar("lark", f"start: {rules}", param)


def parse_lark(text: str, param: str) -> Grammar:
    """A context-free grammar in Lark's notation, with llguidance's additions."""
    if not 0 < len(text) <= MAX_GRAMMAR_CHARACTERS:
        raise invalid(param, f"{param} must have 1 to {MAX_GRAMMAR_CHARACTERS} characters")
    return Grammar("lark", text, param)


def quote(text: str) -> str:
    """A literal of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)
