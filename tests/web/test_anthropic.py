"""/v1/messages over an ASGI server in memory, with the embedded model."""

from __future__ import annotations

import json

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


def events_of(client: MemoryClient) -> list[dict[str, object]]:
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
    text = "".join(delta["text"] for delta in deltas)  # type: ignore[index]
    assert text == whole["content"][0]["text"] == chat.text != ""
    end = next(event for event in stream if event["type"] == "message_delta")
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
