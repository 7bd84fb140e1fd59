"""/v1/messages over an ASGI server in memory, with the embedded model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import make_engine

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
ASK: dict[str, object] = {
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "system": "Be kind.",
    "max_tokens": 20,
}


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return App(assemble(Settings(slots=2), "default", make_engine(model, slots=2), tokenizer))


def events_of(client: MemoryClient) -> list[dict[str, Any]]:
    blocks = client.body.decode().split("\n\n")[:-1]
    return [json.loads(block.split("\ndata: ")[1]) for block in blocks]


@pytest.mark.parametrize("more", [{"temperature": 0}, {"temperature": 0, "stop_sequences": ["."]}])
async def test_a_stream_tells_what_the_whole_does_and_what_openais_chat_does(
    app: App, more: dict[str, object]
) -> None:
    messages = [{"role": "system", "content": "Be kind."}, *ASK["messages"]]  # type: ignore[misc]
    same = {"messages": messages, "max_tokens": 20, "temperature": 0}
    async with running(app):
        whole = (await fetch(post(app, PATH, ASK | more))).json
        stream = events_of(await fetch(post(app, PATH, ASK | more | {"stream": True})))
        chat = await fetch(
            post(
                app,
                "/v1/chat/completions",
                same | {"stop": more.get("stop_sequences"), "stream": True},
            )
        )
    deltas = [event["delta"] for event in stream if event["type"] == "content_block_delta"]
    text = "".join(delta["text"] for delta in deltas)
    assert text == whole["content"][0]["text"] == chat.text != ""
    end = next(event for event in stream if event["type"] == "message_delta")
    told = stream[0]["message"]["usage"]
    assert told["input_tokens"] == whole["usage"]["input_tokens"] > 0
    assert end["usage"] == whole["usage"]
    assert end["delta"] == {key: whole[key] for key in ("stop_reason", "stop_sequence")}
    assert whole["stop_sequence"] == (["."] if "stop_sequences" in more else [None])[0]


async def test_tokens_are_counted_as_they_are_used(app: App) -> None:
    async with running(app):
        counted = (await fetch(post(app, COUNT, ASK))).json
        whole = (await fetch(post(app, PATH, ASK | {"max_tokens": 1}))).json
    assert counted == {"input_tokens": whole["usage"]["input_tokens"]}


@pytest.mark.parametrize(
    ("path", "changes", "status", "kind"),
    [
        (PATH, {"max_tokens": None}, 400, "invalid_request_error"),
        (PATH, {"max_tokens": 100_000}, 400, "invalid_request_error"),
        (PATH, {"model": "claude"}, 404, "not_found_error"),
        (COUNT, {"model": "claude"}, 404, "not_found_error"),
        (COUNT, {"messages": []}, 400, "invalid_request_error"),
    ],
)
async def test_refusals_are_statuses_in_anthropics_shape(
    app: App, path: str, changes: dict[str, object], status: int, kind: str
) -> None:
    async with running(app):
        client = await fetch(post(app, path, ASK | changes | {"stream": True}))
    assert (client.status, client.json["error"]["type"]) == (status, kind)
    assert client.json["type"] == "error"


SCHEMA = {"properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
TOOL: dict[str, object] = {"name": "add", "input_schema": {"type": "object", **SCHEMA}}


async def test_a_tool_is_called_and_answered(app: App) -> None:
    asked = ASK | {"tools": [TOOL], "max_tokens": 100, "temperature": 0}
    chosen = {"type": "any", "disable_parallel_tool_use": True}
    async with running(app):
        whole = (await fetch(post(app, PATH, asked | {"tool_choice": chosen}))).json
        stream = events_of(
            await fetch(post(app, PATH, asked | {"tool_choice": chosen, "stream": True}))
        )
        (call,) = whole["content"]
        said = {"type": "tool_result", "tool_use_id": call["id"], "content": "3"}
        messages = [
            *ASK["messages"],  # type: ignore[misc]
            {"role": "assistant", "content": whole["content"]},
            {"role": "user", "content": [said]},
        ]
        answered = await fetch(post(app, PATH, asked | {"messages": messages, "max_tokens": 9}))
    assert whole["stop_reason"] == "tool_use"
    assert (call["type"], call["name"], call["input"]["a"] in (1, 2)) == ("tool_use", "add", True)
    pieces = [
        event["delta"]["partial_json"] for event in stream if "index" in event and "delta" in event
    ]
    assert json.loads("".join(pieces)) == call["input"]
    assert answered.status == 200
