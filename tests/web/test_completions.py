"""/v1/completions beyond plain prompts: a gap to fill, an echo, options for the chat template."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import fetch, post, running
from tests.peers import make_engine

TEXT = "/v1/completions"
GAP: dict[str, object] = {
    "prompt": "def add(a, b):\n    return ",
    "suffix": "\n\nprint(add(1, 2))",
    "temperature": 0,
    "max_tokens": 24,
}


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return App(assemble(Settings(slots=2), "default", make_engine(model, slots=2), tokenizer))


@pytest.mark.parametrize(
    ("asked", "param", "told"),
    [
        ({"prompt": "word " * 500}, "prompt", "prompt is too long"),
        ({"prompt": "Once", "max_tokens": 900}, "max_tokens", "lower max_tokens"),
    ],
)
async def test_what_does_not_fit_is_said_in_words_that_clients_look_for(
    app: App, asked: dict[str, object], param: str, told: str
) -> None:
    """litellm and pydantic-ai know by the first, langchain by the second, where codes are lost."""
    async with running(app):
        error = (await fetch(post(app, TEXT, asked))).json["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    assert "this model's maximum context length is 192 tokens" in error["message"]
    assert told in error["message"]


async def test_a_gap_is_filled_the_same_streamed_and_whole(app: App) -> None:
    async with running(app):
        whole = await fetch(post(app, TEXT, GAP))
        stream = await fetch(post(app, TEXT, GAP | {"stream": True}))
        plain = await fetch(post(app, TEXT, GAP | {"suffix": None}))
    assert stream.text == whole.text_of() != plain.text_of()
    counted = [each.json["usage"]["prompt_tokens"] for each in (whole, plain)]
    assert counted[0] > counted[1] + 3


async def test_a_model_without_marks_refuses_a_suffix_by_name(app: App) -> None:
    served = app.service.default
    plain = Tokenizer(served.tokenizer.vocabulary, template=None, bos="")
    app.service.models = {"default": replace(served, tokenizer=plain)}
    async with running(app):
        client = await fetch(post(app, TEXT, GAP))
    told = client.json["error"]
    assert (client.status, told["param"], told["code"]) == (400, "suffix", "unsupported_parameter")


async def test_an_echo_begins_the_text_streamed_and_whole(app: App) -> None:
    asked: dict[str, object] = {
        "prompt": "Once upon a\u2028time",
        "max_tokens": 4,
        "temperature": 0,
    }
    async with running(app):
        bare = await fetch(post(app, TEXT, asked))
        whole = await fetch(post(app, TEXT, asked | {"echo": True}))
        stream = await fetch(post(app, TEXT, asked | {"echo": True, "stream": True}))
    assert whole.text_of() == f"{asked['prompt']}{bare.text_of()}" == stream.text
    assert whole.json["usage"] == bare.json["usage"]


async def test_an_option_that_the_template_does_not_know_is_refused_by_name(app: App) -> None:
    asked: dict[str, object] = {
        "messages": [{"role": "user", "content": "Hi"}],
        "chat_template_kwargs": {"tokenize": True},
    }
    async with running(app):
        client = await fetch(post(app, "/v1/chat/completions", asked))
    assert (client.status, client.json["error"]["param"]) == (400, "chat_template_kwargs")
    assert "tokenize" not in client.body.decode()
