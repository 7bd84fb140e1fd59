"""What the tests of parsers share: bodies that are right, and what every refusal must keep to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import settings

from penstock.errors import PenstockError
from penstock.protocols.openai import dump_error

FUZZ = settings(max_examples=200)
MARKER = "marker-in-the-input"
ERROR_LIMIT = 1024

A = TypeVar("A")


def chat(**fields: object) -> bytes:
    """The body of a chat completion; `messages` is one question unless given."""
    return json.dumps({"messages": [{"role": "user", "content": "Hi"}]} | fields).encode()


def completion(**fields: object) -> bytes:
    return json.dumps({"prompt": "Hi"} | fields).encode()


def check_error(error: PenstockError) -> None:
    """An error is short, says something on one line, and quotes nothing of the request."""
    rendered = dump_error(error)
    told = json.loads(rendered)["error"]
    assert list(told) == ["message", "type", "param", "code"]
    assert len(rendered) < ERROR_LIMIT
    assert told["message"]
    assert told["message"].isprintable()
    assert "`" not in told["message"]
    assert MARKER not in rendered


def refusal(parse: Callable[[A], object], given: A) -> PenstockError:
    """How `parse` refuses `given`."""
    with pytest.raises(PenstockError) as caught:
        parse(given)
    check_error(caught.value)
    return caught.value
