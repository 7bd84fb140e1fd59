"""/v1/responses over an ASGI server in memory: the text of a chat, streamed and whole."""

from __future__ import annotations

import json

import pytest

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import fetch, post, running
from tests.peers import make_engine

PATH, CHAT = "/v1/responses", "/v1/chat/completions"
ASK: dict[str, object] = {
    "input": "Tell me a story.",
    "instructions": "Be kind.",
    "max_output_tokens": 20,
}
MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Tell me a story."},
]


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return App(assemble(Settings(slots=2), "default", make_engine(model, slots=2), tokenizer))


@pytest.mark.parametrize("draw", [{"temperature": 0}, {"temperature": 0.9, "seed": 3}], ids=str)
async def test_the_text_is_that_of_a_chat(app: App, draw: dict[str, object]) -> None:
    async with running(app):
        whole = (await fetch(post(app, PATH, ASK | draw))).json
        stream = await fetch(post(app, PATH, ASK | draw | {"stream": True}))
        asked = {"messages": MESSAGES, "max_tokens": 20, "stream": True}
        chat = await fetch(post(app, CHAT, asked | draw))
    blocks = stream.body.decode().split("\n\n")[:-1]
    events = [json.loads(block.split("\ndata: ")[1]) for block in blocks]
    text = "".join(event["delta"] for event in events if "delta" in event)
    assert text == whole["output"][0]["content"][0]["text"] == chat.text != ""
    assert events[-1]["response"]["usage"] == whole["usage"]
    assert whole["status"] == events[-1]["response"]["status"]


async def test_refusals_are_openais(app: App) -> None:
    async with running(app):
        client = await fetch(post(app, PATH, ASK | {"max_output_tokens": 5000, "stream": True}))
        unknown = await fetch(post(app, PATH, ASK | {"model": "gpt-5"}))
    assert client.json["error"]["code"] == "context_length_exceeded"
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
