"""Whatever is posted to whatever route: a short answer, no fault of ours, nobody else disturbed.

Bodies are made from the fields that the OpenAPI document names, with odd values in some of them.
`FUZZ_BODIES` says how many a route gets.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import trio

from penstock import __version__
from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.jobs.job import ANYONE
from penstock.protocols.openapi import make_document
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import make_engine

BODIES = int(os.environ.get("FUZZ_BODIES", "60"))
DOCUMENT = make_document(__version__)
SCHEMAS = DOCUMENT["components"]["schemas"]
ERROR_LIMIT = 1 << 10
ANSWER_LIMIT = 1 << 20
"""Five streamed answers with twenty log probabilities a token come to a quarter of this."""
GOOD = {"prompt": "Once upon a time", "max_tokens": 3, "temperature": 0}
NUMBERS = [0, 1, -1, 2, 5, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, 1e308, -0.0]
TEXTS = ["", "x", "Once upon", "\x00", "\u2028\u0085", "\ud800", "<|endoftext|>", "word " * 300]
LISTS: list[object] = [[], [[]], [None], [0], ["a"], ["a", "b"], ["\n"] * 9]
OBJECTS: list[object] = [
    {},
    {"": 0},
    {"5": 1.0},
    {"type": "text"},
    {"type": "json_object"},
    {"prefix": "def f(", "suffix": ")"},
    {"details": True},
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "tool", "content": "4"}],
]
NOT_JSON = [float("nan"), float("inf")]
ODD: list[object] = [None, True, False, *NUMBERS, *TEXTS, *LISTS, *OBJECTS, *NOT_JSON]


GOOD_TEXTS = {"model": "default", "role": "user", "type": "text", "content": "Hi"}
GOOD_LISTS = {"messages": [{"role": "user", "content": "Hi"}]}


@dataclass(frozen=True)
class Maker:
    """Makes bodies: `odd` and `there` are the shares of odd values and of optional fields."""

    random: Random
    odd: float
    there: float

    def make(self, name: str) -> dict[str, Any]:
        """An object of the schema `name`."""
        schema = SCHEMAS[name]
        return {
            field: self._field(field, kind)
            for field, kind in schema["properties"].items()
            if field in schema.get("required", []) or self.random.random() < self.there
        }

    def _field(self, name: str, schema: dict[str, Any]) -> object:
        if self.random.random() < self.odd:
            return self.random.choice(ODD)
        if name in GOOD_LISTS and self.random.random() < 0.5:
            return GOOD_LISTS[name]
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        return GOOD_TEXTS.get(name) or self._value(schema)

    def _value(self, schema: dict[str, Any]) -> object:
        kinds = schema.get("anyOf", [schema])
        kind = self.random.choice([kind for kind in kinds if kind.get("type") != "null"] or kinds)
        if "$ref" in kind:
            return self.make(kind["$ref"].rpartition("/")[2])
        low, high = kind.get("minimum", 0.1), kind.get("maximum", 9.0)
        match kind.get("type"):
            case "string":
                return self.random.choice(["Once upon a time", "text", "é"])
            case "integer":
                return self.random.choice([1, 2, 5] * 3 + [low, high])
            case "number":
                return self.random.choice([0.5, 1, low, high])
            case "boolean":
                return self.random.random() < 0.5
            case "array":
                items = kind.get("items") or {"type": "string"}
                return [self._value(items) for _ in range(self.random.choice([0, 1, 1, 2]))]
        return {} if kind.get("type") == "object" else None


def schemas_of(path: str) -> list[str]:
    body = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    refs = body["schema"].get("anyOf", [body["schema"]])
    return [ref["$ref"].rpartition("/")[2] for ref in refs]


def torn(random: Random, body: bytes) -> bytes:
    """Some bytes lost or replaced, in one of five."""
    if random.random() < 0.8:
        return body
    place = random.randrange(len(body))
    return body[:place] + random.randbytes(random.randrange(3)) + body[place + 2 :]


ROUTES = [path for path, each in DOCUMENT["paths"].items() if "requestBody" in each.get("post", {})]


@pytest.mark.heavy
@pytest.mark.parametrize("path", ROUTES)
async def test_any_body_gets_a_short_answer_that_is_no_fault_of_ours(
    model: Model, tokenizer: Tokenizer, path: str
) -> None:
    settings = Settings(slots=2, max_tokens=8)
    app = App(assemble(settings, "default", make_engine(model, slots=2), tokenizer))
    random = Random(path)
    accepted = 0
    async with running(app):
        before = (await fetch(post(app, "/v1/completions", GOOD))).text_of()
        job = (await fetch(post(app, "/v1/jobs", GOOD))).json
        asked = path.replace("{job_id}", job["job_id"])
        for number in range(BODIES):
            name = random.choice(schemas_of(path))
            maker = Maker(random, random.choice([0, 0.1, 0.3]), random.choice([0.1, 0.3, 0.6]))
            body = torn(random, json.dumps(maker.make(name)).encode())
            client = await fetch(MemoryClient(app, "POST", asked, body=body))
            told = (number, body[:300], client.body[:300])
            assert client.status in (200, 202, 400, 404, 422), told
            limit = ANSWER_LIMIT if client.status == 200 else ERROR_LIMIT
            assert len(client.body) < limit, told
            accepted += client.status in (200, 202)
        assert (await fetch(post(app, "/v1/completions", GOOD))).text_of() == before
        for log in await app.service.jobs.listed(ANYONE, 1000):
            await app.service.jobs.delete(log)
        with trio.fail_after(30):  # responses in the background are not listed
            while app.service.jobs.store.held().running:
                await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked()
    assert accepted, "no body was good, which shows nothing"
    assert app.service.default.admission.taken == 0
    assert b'reason="failed"} 0.0' in app.service.metrics.render()
