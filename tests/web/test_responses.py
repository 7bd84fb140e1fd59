"""/v1/responses over an ASGI server in memory: the text of a chat, streamed and whole."""

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


SCHEMA = {"properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}


def events_of(client: MemoryClient) -> list[dict[str, Any]]:
    blocks = client.body.decode().split("\n\n")[:-1]
    return [json.loads(block.split("\ndata: ")[1]) for block in blocks]


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
    events = events_of(stream)
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


async def test_a_response_is_kept_unless_it_is_not_to_be(app: App) -> None:
    async with running(app):
        whole = (await fetch(post(app, PATH, ASK))).json
        again = await fetch(MemoryClient(app, "GET", f"{PATH}/{whole['id']}"))
        stream = events_of(await fetch(post(app, PATH, ASK | {"stream": True})))
        last = await fetch(MemoryClient(app, "GET", f"{PATH}/{stream[-1]['response']['id']}"))
        unkept = (await fetch(post(app, PATH, ASK | {"store": False}))).json
        gone = await fetch(MemoryClient(app, "GET", f"{PATH}/{unkept['id']}"))
        path = f"{PATH}/{whole['id']}"
        read = events_of(await fetch(MemoryClient(app, "GET", path, query="stream=true")))
        deleted = await fetch(MemoryClient(app, "DELETE", path))
        after = await fetch(MemoryClient(app, "GET", path))
        listed = (await fetch(MemoryClient(app, "GET", "/v1/jobs"))).json
    assert again.json == whole == read[-1]["response"]
    assert last.json == stream[-1]["response"]
    assert (whole["store"], unkept["store"]) == (True, False)
    assert gone.status == after.status == 404
    assert gone.json["error"]["param"] == "response_id"
    assert deleted.json == {"id": whole["id"], "object": "response", "deleted": True}
    assert listed["data"] == []


async def test_in_the_background_a_response_outlives_its_client(app: App) -> None:
    asked = ASK | {"background": True, "temperature": 0}
    async with running(app):
        told = (await fetch(post(app, PATH, asked))).json
        path = f"{PATH}/{told['id']}"
        read = events_of(await fetch(MemoryClient(app, "GET", path, query="stream=true")))
        rest = await fetch(MemoryClient(app, "GET", path, query="stream=true&starting_after=5"))
        done = (await fetch(MemoryClient(app, "GET", path))).json
        plain = (await fetch(post(app, PATH, ASK | {"temperature": 0}))).json
        streamed = events_of(await fetch(post(app, PATH, asked | {"stream": True})))
    assert (told["status"], told["background"]) == ("queued", True)
    assert done == read[-1]["response"]
    assert events_of(rest) == read[6:]
    texts = [response["output"][0]["content"][0]["text"] for response in (done, plain)]
    assert texts[0] == texts[1] != ""
    assert streamed[-1]["response"]["output"][0]["content"][0]["text"] == texts[0]


async def test_a_response_in_the_background_is_cancelled(app: App) -> None:
    asked = ASK | {"background": True, "max_output_tokens": 100, "ignore_eos": True}
    async with running(app):
        told = (await fetch(post(app, PATH, asked))).json
        path = f"{PATH}/{told['id']}"
        for _ in range(2):
            cancelled = await fetch(MemoryClient(app, "POST", f"{path}/cancel"))
            assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
        unknown = await fetch(MemoryClient(app, "POST", f"{PATH}/resp_0000000000/cancel"))
    assert unknown.status == 404
    assert app.service.default.admission.taken == 0


async def test_a_conversation_goes_on_from_a_response(app: App) -> None:
    draw: dict[str, object] = {"temperature": 0}
    async with running(app):
        first = (await fetch(post(app, PATH, ASK | draw))).json
        then = {"input": "And then?", "previous_response_id": first["id"], **draw}
        second = (await fetch(post(app, PATH, then | {"max_output_tokens": 9}))).json
        third = await fetch(post(app, PATH, then | {"previous_response_id": second["id"]}))
        said = first["output"][0]["content"][0]["text"]
        messages = [
            MESSAGES[1],
            {"role": "assistant", "content": said},
            {"role": "user", "content": "And then?"},
        ]
        chat = await fetch(post(app, CHAT, {"messages": messages, "max_tokens": 9, **draw}))
        unknown = await fetch(post(app, PATH, then | {"previous_response_id": "resp_00000000"}))
        job = (await fetch(post(app, "/v1/jobs", {"prompt": "a", "max_tokens": 1}))).json["job_id"]
        wrong = {"previous_response_id": job.replace("job_", "resp_")}
        other = await fetch(post(app, PATH, then | wrong))
    assert (
        second["output"][0]["content"][0]["text"] == chat.json["choices"][0]["message"]["content"]
    )
    assert second["previous_response_id"] == first["id"]
    assert third.json["usage"]["input_tokens"] > second["usage"]["input_tokens"]
    for refused in (unknown, other):
        assert (refused.status, refused.json["error"]["param"]) == (400, "previous_response_id")


async def test_a_tool_is_called_and_answered(app: App) -> None:
    tool = {"type": "function", "name": "add", "parameters": SCHEMA}
    asked = ASK | {"tools": [tool], "max_output_tokens": 100, "temperature": 0}
    chosen = asked | {"tool_choice": "required", "parallel_tool_calls": False}
    async with running(app):
        whole = (await fetch(post(app, PATH, chosen))).json
        stream = events_of(await fetch(post(app, PATH, chosen | {"stream": True})))
        (call,) = whole["output"]
        said = {"type": "function_call_output", "call_id": call["call_id"], "output": "3"}
        items = [{"role": "user", "content": "Hi"}, call, said]
        answered = await fetch(post(app, PATH, asked | {"input": items, "tool_choice": "none"}))
        then = {"input": [said], "previous_response_id": whole["id"]}
        followed = await fetch(post(app, PATH, asked | then))
    assert (call["type"], call["name"], call["status"]) == ("function_call", "add", "completed")
    assert json.loads(call["arguments"])["a"] in (1, 2)
    assert stream[-1]["response"]["output"][0]["arguments"] == call["arguments"]
    assert answered.status == followed.status == 200


async def test_a_format_is_kept_to(app: App) -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object", **SCHEMA}}
    async with running(app):
        told = (await fetch(post(app, PATH, ASK | {"text": {"format": form}}))).json
    assert json.loads(told["output"][0]["content"][0]["text"])["a"] in (1, 2)
    assert told["text"]["format"] == form
