"""Untyped input to a typed body, or one error that names the field and never echoes the input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from penstock.errors import INVALID_JSON, PenstockError, invalid

T = TypeVar("T")

_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`")
_WORDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b")


def decode(body: bytes, kind: type[T]) -> T:
    """The JSON object `body` as `kind`. Raises `PenstockError`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise explain(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PenstockError(INVALID_JSON, "the body is not valid JSON in UTF-8") from None


def convert(fields: Mapping[str, str], kind: type[T]) -> T:
    """The fields of a query as `kind`. Raises `PenstockError`."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise explain(error) from None


def explain(error: msgspec.ValidationError) -> PenstockError:
    """msgspec's wording, with the path turned into `param`."""
    text = str(error)
    path = _PATH.search(text)
    what = text[: path.start()] if path else text
    missing = _MISSING.match(what)
    names = (path[1] if path else "", missing[1] if missing else "")
    param = ".".join(name for name in names if name)[:100]
    if not param:
        return PenstockError(INVALID_JSON, "the request must be a JSON object")
    return invalid(param, f"{param}: {'is required' if missing else _plain(what)}")


def _plain(what: str) -> str:
    """JSON's words for types. The one wording of msgspec that quotes a value is replaced."""
    if what.startswith("Invalid"):
        return "is not one of the values known here"
    words = _WORD.sub(lambda word: _WORDS[word[1]], what.replace("`", ""))
    return words[:1].lower() + words[1:]
