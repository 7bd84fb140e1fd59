"""TGI's routes over an ASGI server in memory, with the embedded model."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import make_engine

PROMPT = "Once upon a time, there was a little"


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    settings = Settings(slots=2, queue=3, max_streams=100)
    return App(assemble(settings, "default", make_engine(model, slots=2), tokenizer))


def asked(**parameters: object) -> dict[str, object]:
    return {"inputs": PROMPT, "parameters": {"max_new_tokens": 24, "details": True} | parameters}


def events_of(client: MemoryClient) -> list[Any]:
    assert client.headers[b"content-type"].startswith(b"text/event-stream")
    return [json.loads(event[6:]) for event in client.body.decode().split("\n\n")[:-1]]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"temperature": 0.9, "seed": 4},
        {"do_sample": True, "seed": 2**64 - 1, "top_k": 30},
        {"stop": ["."]},
        {"stop": [" girl", "named X"]},
        {"max_new_tokens": 1},
        {"repetition_penalty": 1.3, "max_new_tokens": 60},
    ],
    ids=str,
)
async def test_the_events_of_a_stream_are_the_tokens_of_the_whole(
    app: App, parameters: dict[str, object]
) -> None:
    async with running(app):
        whole = (await fetch(post(app, "/generate", asked(**parameters)))).json
        stream = events_of(await fetch(post(app, "/generate_stream", asked(**parameters))))
    tokens = [event["token"] for event in stream]
    assert tokens == whole["details"]["tokens"]
    assert "".join(token["text"] for token in tokens) == whole["generated_text"]
    assert stream[-1]["generated_text"] == whole["generated_text"]
    for name in ("finish_reason", "generated_tokens", "seed"):
        assert stream[-1]["details"][name] == whole["details"][name]
    assert len(tokens) == whole["details"]["generated_tokens"]
    assert all(token["logprob"] <= 0 for token in tokens)


async def test_the_text_is_that_of_a_text_completion(app: App) -> None:
    async with running(app):
        tgi = await fetch(post(app, "/generate", {"inputs": PROMPT}))
        openai = await fetch(
            post(app, "/v1/completions", {"prompt": PROMPT, "temperature": 0, "stream": True})
        )
    assert tgi.json == {"generated_text": openai.text}


async def test_the_root_answers_with_a_list_or_a_stream(app: App) -> None:
    async with running(app):
        whole = await fetch(post(app, "/", asked()))
        stream = await fetch(post(app, "/", asked() | {"stream": True}))
        same = await fetch(post(app, "/generate_stream", asked()))
    assert [each["generated_text"] for each in whole.json] == [
        events_of(stream)[-1]["generated_text"]
    ]
    assert stream.body == same.body


async def test_truncate_keeps_the_end_of_the_prompt(app: App) -> None:
    async with running(app):
        stream = await fetch(post(app, "/generate_stream", asked(truncate=3)))
        long = {"inputs": "word " * 500, "parameters": {"truncate": 100, "max_new_tokens": 2}}
        fits = await fetch(post(app, "/generate", long))
    assert events_of(stream)[-1]["details"]["input_length"] == 3
    assert fits.status == 200


async def test_return_full_text_puts_the_prompt_before_the_text_only(app: App) -> None:
    async with running(app):
        bare = (await fetch(post(app, "/generate", asked()))).json["generated_text"]
        full = (await fetch(post(app, "/generate", asked(return_full_text=True)))).json
        stream = events_of(
            await fetch(post(app, "/", asked(return_full_text=True) | {"stream": True}))
        )
    assert full["generated_text"] == PROMPT + bare == stream[-1]["generated_text"]
    assert "".join(event["token"]["text"] for event in stream) == bare


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
@pytest.mark.parametrize(
    "body",
    [{"inputs": ""}, asked(max_new_tokens=0), asked(max_new_tokens=5000), {}, asked(best_of=2)],
)
async def test_refusals_are_422_before_any_header(
    app: App, path: str, body: dict[str, object]
) -> None:
    async with running(app):
        client = await fetch(post(app, path, body | {"stream": True}))
    assert (client.status, client.json["error_type"]) == (422, "validation")
    assert client.headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_grammar_binds_the_text(app: App, path: str, streamed: bool) -> None:
    grammar = {"type": "regex", "value": "(yes|no), [0-9]{3}"}
    body = asked(grammar=grammar, max_new_tokens=40)
    async with running(app):
        client = await fetch(post(app, path, body | {"stream": streamed}))
    if client.headers[b"content-type"] == b"application/json":
        told = client.json[0] if path == "/" else client.json
    else:
        told = events_of(client)[-1]
    assert re.fullmatch(r"(yes|no), \d{3}", told["generated_text"])


async def test_a_full_server_is_overloaded_with_retry_after(app: App) -> None:
    app.service.default.admission.draining = True
    client = await fetch(post(app, "/generate_stream", asked()))
    assert (client.status, client.json["error_type"]) == (429, "overloaded")
    assert client.headers[b"retry-after"] == b"5"


async def test_a_whole_answer_tells_its_times_in_headers(app: App) -> None:
    async with running(app):
        client = await fetch(post(app, "/generate", asked(max_new_tokens=5)))
    told = {name.decode(): value.decode() for name, value in client.headers.items()}
    assert (told["x-prompt-tokens"], told["x-generated-tokens"]) == ("10", "5")
    assert told["x-compute-type"] == "cpu"
    assert told["x-compute-characters"] == str(len(PROMPT))
    assert 0 < float(told["x-compute-time"]) < 60
    total, queue, inference = (int(told[f"x-{n}-time"]) for n in ("total", "queue", "inference"))
    assert queue + inference <= total <= queue + inference + 1


async def test_info_tells_what_fits(app: App) -> None:
    told = (await fetch(MemoryClient(app, "GET", "/info"))).json
    assert told["model_id"] == "default"
    assert (told["max_concurrent_requests"], told["max_best_of"]) == (5, 1)
    assert (told["max_input_tokens"], told["max_total_tokens"]) == (191, 192)


async def test_only_a_post_of_the_root_is_tgis(app: App) -> None:
    assert (await fetch(MemoryClient(app, "GET", "/"))).status == 404
    client = await fetch(MemoryClient(app, "GET", "/generate"))
    assert (client.status, client.headers[b"allow"]) == (405, b"POST")
