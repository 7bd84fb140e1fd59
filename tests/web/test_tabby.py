"""Tabby's routes, and those that spell and count tokens, over an ASGI server in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import make_engine

TEXT = "/v1/completions"
CURSOR: dict[str, object] = {
    "language": "python",
    "segments": {"prefix": "def add(a, b):\n    return ", "suffix": "\n\nprint(add(1, 2))"},
    "temperature": 0,
}


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return App(assemble(Settings(slots=2), "default", make_engine(model, slots=2), tokenizer))


async def test_the_gap_at_a_cursor_is_filled_as_openais_suffix_is(app: App) -> None:
    gap = {"prompt": "def add(a, b):\n    return ", "suffix": "\n\nprint(add(1, 2))"}
    async with running(app):
        tabby = await fetch(post(app, TEXT, CURSOR | {"stream": True}))
        openai = await fetch(post(app, TEXT, gap | {"temperature": 0}))
    assert tabby.headers[b"content-type"] == b"application/json"
    assert set(tabby.json) == {"id", "choices"}
    assert tabby.json["choices"] == [{"index": 0, "text": openai.text_of()}]


async def test_a_model_that_fills_no_gaps_goes_on_from_the_prefix(app: App) -> None:
    served = app.service.default
    words = Tokenizer(served.tokenizer.vocabulary, template=None, bos="<|endoftext|>")
    app.service.models = {"default": replace(served, tokenizer=words)}
    async with running(app):
        tabby = await fetch(post(app, TEXT, CURSOR))
    assert tabby.status == 200
    assert "\n\n" not in tabby.text_of()


async def test_neither_prompt_nor_segments_is_refused_as_openai_does(app: App) -> None:
    client = await fetch(post(app, TEXT, {"language": "python"}))
    assert (client.status, client.json["error"]["param"]) == (400, "prompt")
    client = await fetch(post(app, TEXT, {"segments": {"suffix": "x"}}))
    assert (client.status, client.json["error"]["param"]) == (400, "segments.prefix")


async def test_an_editor_that_goes_on_typing_cancels(app: App) -> None:
    client = post(app, TEXT, CURSOR)
    async with running(app), trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        while not app.service.default.admission.taken:
            await trio.testing.wait_all_tasks_blocked()
        client.leave()
    assert app.service.default.admission.taken == 0
    assert b'cancelled_total{reason="disconnect"} 1.0' in app.service.metrics.render()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_health_is_told_to_both_methods(app: App, method: str) -> None:
    told = (await fetch(MemoryClient(app, method, "/v1/health"))).json
    assert (told["model"], told["device"]) == ("default", "cpu")


async def test_the_agent_is_told_not_to_phone_home_and_its_events_are_taken(app: App) -> None:
    settings = await fetch(MemoryClient(app, "GET", "/v1beta/server_setting"))
    assert settings.json == {"disable_client_side_telemetry": True}
    events = MemoryClient(app, "POST", "/v1/events", query="select_kind=line", body=b"{}")
    taken = await fetch(events)
    assert (taken.status, taken.body) == (200, b"")


async def test_tokens_of_a_prompt_and_back(app: App) -> None:
    ids = (await fetch(post(app, "/tokenize", {"prompt": "Once é\u2028"}))).json
    assert ids["count"] == len(ids["tokens"]) > 3
    assert ids["max_model_len"] == 192
    text = await fetch(post(app, "/detokenize", {"tokens": ids["tokens"]}))
    assert text.json == {"prompt": "<|endoftext|>Once é\u2028"}
    assert b"\\u2028" in text.body


async def test_a_chat_is_counted_as_it_is_prompted(app: App) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    asked: dict[str, object] = {"messages": messages, "return_token_strs": True}
    async with running(app):
        counted = (await fetch(post(app, "/tokenize", asked))).json
        answered = await fetch(
            post(app, "/v1/chat/completions", {"messages": messages, "max_tokens": 1})
        )
    assert counted["count"] == answered.json["usage"]["prompt_tokens"]
    assert counted["token_strs"][-1] == "<|assistant|>"


@pytest.mark.parametrize(
    ("path", "asked", "param"),
    [
        ("/tokenize", {"prompt": "Hi", "model": "x"}, "model"),
        ("/tokenize", {"messages": [{"role": "judge", "content": "4"}]}, "messages[0].role"),
        ("/detokenize", {"tokens": [4096]}, "tokens"),
        ("/detokenize", {"tokens": [2**64]}, "tokens"),
    ],
    ids=str,
)
async def test_what_cannot_be_told_is_refused(
    app: App, path: str, asked: dict[str, object], param: str
) -> None:
    client = await fetch(post(app, path, asked))
    assert client.json["error"]["param"] == param
    assert client.status in (400, 404)
