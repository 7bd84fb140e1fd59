"""The OpenAPI document is of the routes that there are and of what they take."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from penstock import __version__
from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.protocols.openapi import make_document
from penstock.settings import Settings
from penstock.web.app import ROUTES, App
from tests.asgi import MemoryClient, fetch
from tests.peers import make_engine


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return App(assemble(Settings(slots=1), "default", make_engine(model, slots=1), tokenizer))


@pytest.fixture
def document() -> dict[str, Any]:
    return make_document(__version__)


def refs_of(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (each for name, each in value.items() if name == "$ref")
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from refs_of(each)


def field(document: dict[str, Any], name: str, of: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][of]["properties"][name]
    return found


def test_every_route_is_in_it_and_no_other(app: App, document: dict[str, Any]) -> None:
    told = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    rules = app._ops.url_map.iter_rules()
    pages = {
        (method, re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    generated = {(method, path) for path, (method, _) in ROUTES.items()}
    assert told == pages | generated


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = document["components"]["schemas"]
    found = set(refs_of(document))
    assert found
    assert all(ref.removeprefix("#/components/schemas/") in known for ref in found)
    ids = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(ids) == len(set(ids))


def test_an_end_without_content_is_told_where_there_is_one(document: dict[str, Any]) -> None:
    ends = {
        path
        for path, methods in document["paths"].items()
        if any("204" in each["responses"] for each in methods.values())
    }
    assert ends == {"/v1/stream", "/chat/stream"}


def test_bounds_are_those_of_each_dialect(document: dict[str, Any]) -> None:
    temperature = field(document, "temperature", "ChatBody")["anyOf"][0]
    assert temperature == {"type": "number", "minimum": 0, "maximum": 2}
    temperature = field(document, "temperature", "Parameters")["anyOf"][0]
    assert temperature == {"type": "number", "exclusiveMinimum": 0, "maximum": 100}
    assert field(document, "temperature", "MessagesBody")["anyOf"][0]["maximum"] == 1
    assert field(document, "max_tokens", "MessagesBody")["minimum"] == 1


def test_what_cannot_be_left_out_is_required_and_not_null(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["ChatBody"]["required"] == ["messages"]
    assert schemas["MessagesBody"]["required"] == ["max_tokens", "messages"]
    assert field(document, "inputs", "GenerateBody") == {"type": "string"}
    [prompt, *_] = document["paths"]["/chat/stream"]["get"]["parameters"]
    assert (prompt["name"], prompt["required"], prompt["schema"]) == (
        "prompt",
        True,
        {"type": "string"},
    )


async def test_the_document_and_the_page_are_served(app: App, document: dict[str, Any]) -> None:
    served = await fetch(MemoryClient(app, "GET", "/openapi.json"))
    assert json.loads(served.body) == json.loads(json.dumps(document))
    page = await fetch(MemoryClient(app, "GET", "/docs"))
    text = page.body.decode()
    assert page.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert all("</code></h3>" in text and path in text for path in document["paths"])
    assert "number, above 0 to 1" in text
    assert "://" not in text
    assert "<script" not in text
