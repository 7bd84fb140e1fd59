"""n answers in one request: shapes, counts, places, and what is freed when the reader leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import WatchedEngine, settled

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, dict[str, object]] = {
    CHAT: {"messages": [{"role": "user", "content": "Tell me a story."}]},
    TEXT: {"prompt": "Once upon a time"},
}
PLENTY = 1 << 30


def make_app(
    model: Model,
    tokenizer: Tokenizer,
    *,
    slots: int = 4,
    **more: Any,  # noqa: ANN401
) -> App:
    engine = WatchedEngine(model, slots=slots, parked_kv_bytes=PLENTY)
    settings = Settings(slots=slots, **{"queue": 4, **more})
    return App(assemble(settings, "default", engine, tokenizer))


async def ask(app: App, path: str, **fields: object) -> MemoryClient:
    question: Mapping[str, object] = ASK[path]
    return await fetch(post(app, path, {"max_tokens": 16, "seed": 5, **question, **fields}))


def chunks(client: MemoryClient) -> list[dict[str, Any]]:
    lines = [line[6:] for line in client.body.decode().splitlines() if line[:7] == "data: {"]
    return [choice for line in lines for choice in json.loads(line)["choices"]]


def text_of(choice: Mapping[str, Any]) -> str:
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("slots", [1, 2, 4])
async def test_each_answer_is_the_same_streamed_and_whole_and_told_apart(
    model: Model, tokenizer: Tokenizer, path: str, slots: int
) -> None:
    app = make_app(model, tokenizer, slots=slots)
    async with running(app):
        one = (await ask(app, path)).json
        whole = (await ask(app, path, n=3)).json
        stream = await ask(app, path, n=3, stream=True, stream_options={"include_usage": True})
    choices = whole["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert text_of(choices[0]) == text_of(one["choices"][0])
    assert len({text_of(choice) for choice in choices}) == 3
    pieces = ["", "", ""]
    ends: Counter[int] = Counter()
    for chunk in chunks(stream):
        assert not ends[chunk["index"]], "a piece after the end of its answer"
        ends[chunk["index"]] += chunk["finish_reason"] is not None
        pieces[chunk["index"]] += chunk.get("text") or chunk.get("delta", {}).get("content") or ""
    assert pieces == [text_of(choice) for choice in choices]
    assert set(ends.values()) == {1}
    usage = json.loads(stream.body.decode().split("\n\n")[-3].removeprefix("data: "))["usage"]
    assert usage == whole["usage"]
    assert usage["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert usage["completion_tokens"] > one["usage"]["completion_tokens"]
    if path == CHAT:
        opening = chunks(stream)[:3]
        assert [(it["index"], it["delta"]["role"]) for it in opening] == [
            (0, "assistant"),
            (1, "assistant"),
            (2, "assistant"),
        ]


async def test_the_prompt_is_computed_once_for_all(model: Model, tokenizer: Tokenizer) -> None:
    app = make_app(model, tokenizer)
    async with running(app):
        usage = (await ask(app, TEXT, n=4, max_tokens=1)).json["usage"]
    engine = app.service.default.decoder.engine
    assert isinstance(engine, WatchedEngine)
    assert usage["completion_tokens"] == 4
    assert len(engine.turns) == 1


async def test_log_probabilities_are_told_by_answer(model: Model, tokenizer: Tokenizer) -> None:
    app = make_app(model, tokenizer)
    async with running(app):
        whole = (await ask(app, CHAT, n=2, logprobs=True)).json
        stream = chunks(await ask(app, CHAT, n=2, logprobs=True, stream=True))
    for choice in whole["choices"]:
        told = [
            entry
            for chunk in stream
            if chunk["index"] == choice["index"] and chunk["logprobs"]
            for entry in chunk["logprobs"]["content"]
        ]
        assert told == choice["logprobs"]["content"]
        assert "".join(entry["token"] for entry in told).startswith(text_of(choice))


async def test_stop_strings_end_each_answer_for_itself(model: Model, tokenizer: Tokenizer) -> None:
    app = make_app(model, tokenizer)
    async with running(app):
        whole = (await ask(app, TEXT, n=4, stop=["."], max_tokens=40)).json
    assert all("." not in text_of(choice) for choice in whole["choices"])
    assert "stop" in {choice["finish_reason"] for choice in whole["choices"]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"n": 9}, "n"), ({"n": 5, "best_of": 6}, "best_of"), ({"n": 0}, "n"), ({"n": 129}, "n")],
)
async def test_too_many_are_refused_by_name(
    model: Model, tokenizer: Tokenizer, fields: dict[str, object], param: str
) -> None:
    app = make_app(model, tokenizer, max_choices=8)
    async with running(app):
        refused = await ask(app, TEXT, **fields)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)


async def test_more_than_there_are_places_can_never_be_answered(
    model: Model, tokenizer: Tokenizer
) -> None:
    app = make_app(model, tokenizer, slots=1, queue=2)
    async with running(app):
        refused = await ask(app, TEXT, n=4)
        taken = await ask(app, TEXT, n=3)
    assert (refused.status, refused.json["error"]["param"]) == (400, "n")
    assert "3 places" in refused.json["error"]["message"]
    assert len(taken.json["choices"]) == 3
    assert app.service.default.admission.taken == 0


async def test_each_answer_takes_a_place(
    model: Model, tokenizer: Tokenizer, nursery: trio.Nursery
) -> None:
    app = make_app(model, tokenizer, slots=2, queue=2)
    nursery.start_soon(app.service.run)
    asked = {**ASK[TEXT], "n": 3, "stream": True, "max_tokens": 40, "ignore_eos": True}
    stopped = post(app, TEXT, asked, reads=1)
    nursery.start_soon(stopped.run)
    await settled(app.service.default.decoder)
    assert app.service.default.admission.taken == 3
    refused = await ask(app, TEXT, n=2)
    assert (refused.status, refused.json["error"]["code"]) == (429, "overloaded")
    stopped.leave()
    await settled(app.service.default.decoder)
    assert app.service.default.admission.taken == 0
    assert app.service.default.decoder.schedule.free == 2


async def test_a_reader_that_stops_stops_all_its_answers_and_gets_them_whole_later(
    model: Model, tokenizer: Tokenizer, nursery: trio.Nursery
) -> None:
    app = make_app(model, tokenizer)
    decoder = app.service.default.decoder
    nursery.start_soon(app.service.run)
    asked: dict[str, object] = {**ASK[TEXT], "n": 3, "stream": True, "max_tokens": 30, "seed": 5}
    whole = await fetch(post(app, TEXT, asked))
    stopped = post(app, TEXT, asked, reads=4)
    async with trio.open_nursery() as streams:
        streams.start_soon(stopped.run)
        await settled(decoder)
        assert decoder.schedule.parked == 3
        stopped.read(10_000)

    def texts(client: MemoryClient) -> list[str]:
        found = ["", "", ""]
        for chunk in chunks(client):
            found[chunk["index"]] += chunk["text"]
        return found

    assert texts(stopped) == texts(whole)
