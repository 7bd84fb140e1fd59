"""Sampling parameters and log probabilities, from a request's body to its answer's."""

from __future__ import annotations

import json
import math
from itertools import chain
from typing import Any

import pytest
import trio

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post
from tests.peers import make_engine

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture
async def app(model: Model, tokenizer: Tokenizer, nursery: trio.Nursery) -> App:
    service = assemble(
        Settings(slots=4, queue=4), "default", make_engine(model, slots=4), tokenizer
    )
    nursery.start_soon(service.run)
    return App(service)


async def ask(app: App, path: str, **fields: object) -> MemoryClient:
    question = {"messages": MESSAGES} if path == CHAT else {"prompt": "Once upon a time"}
    return await fetch(post(app, path, {"max_tokens": 24, "seed": 5, **question, **fields}))


def chunks(client: MemoryClient) -> list[dict[str, Any]]:
    lines = [line[6:] for line in client.body.decode().splitlines() if line[:7] == "data: {"]
    return [json.loads(line)["choices"][0] for line in lines]


@pytest.mark.parametrize("fields", [{}, {"stop": ["e"]}, {"temperature": 2}, {"ignore_eos": True}])
async def test_a_chats_entries_are_the_same_streamed_and_whole(
    app: App, fields: dict[str, object]
) -> None:
    asked = {"logprobs": True, "top_logprobs": 3, **fields}
    whole = (await ask(app, CHAT, **asked)).json
    pieces = chunks(await ask(app, CHAT, stream=True, **asked))
    choice = whole["choices"][0]
    entries = (choice["logprobs"] or {"content": []})["content"]
    streamed = [piece["logprobs"]["content"] for piece in pieces if piece["logprobs"]]
    assert [*chain.from_iterable(streamed)] == entries
    text = bytes(byte for entry in entries for byte in entry["bytes"]).decode("utf-8", "replace")
    assert text.startswith(choice["message"]["content"])
    if not fields:
        assert len(entries) == whole["usage"]["completion_tokens"]
    for entry in entries:
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 3
        assert sum(math.exp(other["logprob"]) for other in entry["top_logprobs"]) <= 1 + 1e-5


async def test_a_texts_offsets_are_where_its_tokens_are(app: App) -> None:
    choice = (await ask(app, TEXT, logprobs=2, temperature=0)).json["choices"][0]
    told = choice["logprobs"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == 24
    for token, offset in zip(told["tokens"], told["text_offset"], strict=True):
        assert choice["text"].startswith(token, offset)
    for token, logprob, top in zip(
        told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
    ):
        assert len(top) == 2
        assert top[token] == logprob == max(top.values())


async def test_logprobs_are_null_unless_asked_for(app: App) -> None:
    assert (await ask(app, CHAT)).json["choices"][0]["logprobs"] is None
    pieces = chunks(await ask(app, TEXT, stream=True))
    assert {piece["logprobs"] for piece in pieces} == {None}


async def test_a_bias_forces_a_token(app: App, tokenizer: Tokenizer) -> None:
    [token_id] = tokenizer.vocabulary.encode(" cat", add_special_tokens=False).ids
    client = await ask(app, TEXT, logit_bias={str(token_id): 100}, max_tokens=3)
    assert client.json["choices"][0]["text"] == " cat cat cat"


@pytest.mark.parametrize("token_id", [4096, 999_999_999])
async def test_a_bias_on_a_token_that_the_model_does_not_have_is_refused(
    app: App, token_id: int
) -> None:
    client = await ask(app, TEXT, logit_bias={str(token_id): 1})
    error = client.json["error"]
    assert (client.status, error["code"], error["param"]) == (400, "invalid_value", "logit_bias")
    assert "4095" in error["message"]
    assert app.service.default.admission.taken == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 3},
        {"frequency_penalty": 2},
        {"presence_penalty": 2},
        {"frequency_penalty": -2},
    ],
)
async def test_a_penalty_changes_a_greedy_answer(app: App, fields: dict[str, object]) -> None:
    plain = await ask(app, TEXT, temperature=0, max_tokens=60)
    penalised = await ask(app, TEXT, temperature=0, max_tokens=60, **fields)
    assert penalised.text_of() != plain.text_of()
    assert (await ask(app, TEXT, temperature=0, max_tokens=60, **fields)).text_of() == (
        penalised.text_of()
    )
