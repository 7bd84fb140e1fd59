"""Calls and thoughts where a template marks them: the real engine under such a template."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from penstock.build import assemble
from penstock.engine.engine import Engine
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post

PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
MARKERS = {
    "hermes": PLAIN + "{# <tool_call> #}",
    "mistral": PLAIN + "{# [TOOL_CALLS] #}",
    "llama": PLAIN + "{# <|python_tag|> #}",
}
EMPTY = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": EMPTY}} for name in ("one", "two")
]


def make_app(model: Model, tokenizer: Tokenizer, template: str) -> App:
    told = Tokenizer(tokenizer.vocabulary, template=template, bos="<|endoftext|>")
    engine = Engine(model, slots=2, max_len=1024, prefill_chunk=128)
    return App(assemble(Settings(slots=2), "default", engine, told))


async def ask(app: App, **fields: object) -> MemoryClient:
    messages = [{"role": "user", "content": "Hi"}]
    asked = {"messages": messages, "max_tokens": 900, "seed": 3, **fields}
    return await fetch(post(app, "/v1/chat/completions", asked))


def deltas(client: MemoryClient, field: str) -> list[Any]:
    lines = client.body.decode().split("\n")
    chunks = [json.loads(line[6:]) for line in lines if line[:7] == "data: {"]
    found = [choice["delta"].get(field) for chunk in chunks for choice in chunk["choices"]]
    return [value for value in found if value]


@pytest.mark.parametrize("family", MARKERS)
async def test_required_calls_are_read_back_from_each_familys_format(
    model: Model, tokenizer: Tokenizer, nursery: trio.Nursery, family: str
) -> None:
    app = make_app(model, tokenizer, MARKERS[family])
    nursery.start_soon(app.service.run)
    for parallel in (False, True):
        asked = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": parallel}
        choice = (await ask(app, **asked)).json["choices"][0]
        message = choice["message"]
        assert (message["content"], choice["finish_reason"]) == (None, "tool_calls")
        calls = message["tool_calls"]
        assert len(calls) == 1 or parallel
        assert len({call["id"] for call in calls}) == len(calls)
        for call in calls:
            assert call["function"]["name"] in ("one", "two")
            assert json.loads(call["function"]["arguments"]) == {}
        streamed = deltas(await ask(app, stream=True, **asked), "tool_calls")
        begun = [piece for (piece,) in streamed if "id" in piece]
        assert [piece["index"] for piece in begun] == [*range(len(calls))]


async def test_thoughts_have_a_field_of_their_own(
    model: Model, tokenizer: Tokenizer, nursery: trio.Nursery
) -> None:
    app = make_app(model, tokenizer, PLAIN + "<think>\n")
    nursery.start_soon(app.service.run)
    whole = (await ask(app, max_tokens=12)).json["choices"][0]["message"]
    assert whole["content"] == ""
    assert whole["reasoning_content"]
    client = await ask(app, max_tokens=12, stream=True)
    assert "".join(deltas(client, "reasoning_content")) == whole["reasoning_content"]
    assert deltas(client, "content") == []
    bound = (await ask(app, guided_regex="[a-z]{5}")).json["choices"][0]["message"]
    assert len(bound["content"]) == 5
    assert "reasoning_content" not in bound
