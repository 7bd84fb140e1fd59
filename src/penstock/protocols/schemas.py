"""JSON schemas from outside: small enough to be compiled, without what constrains nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from penstock.errors import PenstockError, invalid

MAX_SCHEMA_BYTES = 64 << 10
MAX_LITERAL_CHARACTERS = 2048
"""At 150,000 words a step takes 0.2 us for each character of a literal that it may lead into."""
MAX_DEPTH = 64
MAX_REFERENCES = 256
"""llguidance follows a chain of them on the stack."""

NOTES = frozenset(
    ("title", "description", "examples", "default", "$comment", "deprecated", "x-guidance")
)
DATA = frozenset(("const", "enum"))
NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions"))
"""Keywords whose fields are schemas under names of the client's choosing."""

OPTIONS: Mapping[str, Any] = {
    "whitespace_flexible": True,
    # Without a bound, a model that has lost its way makes spaces until its tokens run out.
    "whitespace_pattern": " ?",
    "lenient": False,
    "coerce_one_of": False,
}
"""For llguidance, which reads them from the schema; a client's own are dropped."""

Place = Literal["schema", "names", "data"]


def lean_schema(schema: object, param: str) -> str:
    """The schema as JSON text, without notes. Raises `PenstockError` that names `param`."""
    if not isinstance(schema, dict):
        raise invalid(param, f"{param}: the schema must be a JSON object")
    lean = _copy(schema, param, 0, "schema")
    if sum(name == "$ref" for name in _names(lean)) > MAX_REFERENCES:
        raise invalid(param, f"{param}: the schema has more than {MAX_REFERENCES} references")
    text = json.dumps({"x-guidance": OPTIONS, **lean}, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise invalid(param, f"{param}: the schema is longer than {MAX_SCHEMA_BYTES >> 10} KiB")
    return text


def parse_json(text: str, param: str) -> object:
    """JSON that came inside a string."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise invalid(param, f"{param} is not valid JSON") from None


def literal(text: str, param: str) -> str:
    """A string that an answer may have to spell."""
    if len(text) > MAX_LITERAL_CHARACTERS:
        raise invalid(param, f"{param}: a string has over {MAX_LITERAL_CHARACTERS} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(param, f"{param} holds half of a surrogate pair") from None
    return text


def _copy(value: Any, param: str, depth: int, place: Place) -> Any:  # noqa: ANN401  # any JSON
    if depth > MAX_DEPTH:
        raise _too_deep(param)
    if isinstance(value, str):
        return literal(value, param)
    if isinstance(value, list):
        return [_copy(each, param, depth + 1, place) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        literal(key, param): _copy(each, param, depth + 1, _inside(place, key))
        for key, each in value.items()
        if place != "schema" or key not in NOTES
    }


def _inside(place: Place, key: str) -> Place:
    if place == "data" or (place == "schema" and key in DATA):
        return "data"
    return "names" if place == "schema" and key in NAMED else "schema"


def _too_deep(param: str) -> PenstockError:
    return invalid(param, f"{param}: the schema is nested deeper than {MAX_DEPTH} levels")


def _names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _names(each)
