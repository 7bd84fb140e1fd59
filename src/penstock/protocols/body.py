"""Bytes to a typed body, or one error that names the field and never echoes the input."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from penstock.errors import INVALID_JSON, PenstockError, invalid

T = TypeVar("T")

_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_KEY = re.compile(r"^Object (?:contains unknown|missing required) field `([^`]*)`")


def decode(body: bytes, kind: type[T]) -> T:
    """The JSON object `body` as `kind`. Raises `PenstockError`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PenstockError(INVALID_JSON, "the body is not valid JSON") from None


def _explain(text: str) -> PenstockError:
    """msgspec's wording, with the path turned into `param`. It never quotes values."""
    path = _PATH.search(text)
    what = text[: path.start()] if path else text
    missing = _KEY.match(what)
    param = ".".join(
        part for part in (path[1] if path else "", missing[1] if missing else "") if part
    )
    if not param:
        return PenstockError(INVALID_JSON, "the body must be a JSON object")
    what = "is required" if missing else what[:1].lower() + what[1:].replace("`", "")
    return invalid(param[:100], f"{param[:100]}: {what}")
