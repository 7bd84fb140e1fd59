"""Answers that must have a form, from a request's body to its answer's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import trio

from penstock.build import assemble
from penstock.engine.engine import Engine
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, post
from tests.schemas import schemas

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SLOTS = 8
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "maxLength": 20},
                    "unit": {"enum": ["C", "F"]},
                    "days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "maxItems": 3},
                },
                "required": ["city", "unit"],
                "additionalProperties": False,
                "$defs": {"day": {"type": "integer", "minimum": 1, "maximum": 31}},
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    },
]


@pytest.fixture
async def app(model: Model, tokenizer: Tokenizer, nursery: trio.Nursery) -> App:
    engine = Engine(model, slots=SLOTS, max_len=1024, prefill_chunk=128)
    service = assemble(Settings(slots=SLOTS, queue=256), "default", engine, tokenizer)
    nursery.start_soon(service.run)
    return App(service)


async def ask(app: App, path: str = CHAT, **fields: object) -> MemoryClient:
    question = "Tell me about yourself."
    asked = (
        {"messages": [{"role": "user", "content": question}]} if path == CHAT else {"prompt": "The"}
    )
    return await fetch(post(app, path, {"max_tokens": 400, "seed": 5, **asked, **fields}))


def formatted(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}


async def in_parallel(count: int, work: Callable[[int], Any]) -> None:
    """`work` for each index, `SLOTS` at a time."""
    limiter = trio.CapacityLimiter(SLOTS)

    async def limited(index: int) -> None:
        async with limiter:
            await work(index)

    async with trio.open_nursery() as nursery:
        for index in range(count):
            nursery.start_soon(limited, index)


@pytest.mark.heavy
async def test_answers_satisfy_their_schemas(app: App) -> None:
    """At least 95 in a hundred end by themselves, and every one of those is valid."""
    given = schemas()
    assert len(given) == 200
    reasons: list[str] = []

    async def answer(index: int) -> None:
        client = await ask(app, seed=index, response_format=formatted(given[index]))
        assert client.status == 200, (given[index], client.body)
        choice = client.json["choices"][0]
        reasons.append(choice["finish_reason"])
        if choice["finish_reason"] == "stop":
            jsonschema.validate(json.loads(choice["message"]["content"]), given[index])

    await in_parallel(len(given), answer)
    assert reasons.count("stop") >= 0.95 * len(given)


@pytest.mark.slow
async def test_required_tools_are_called_with_arguments_that_fit(app: App) -> None:
    known = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    called: list[str] = []

    async def answer(index: int) -> None:
        client = await ask(app, seed=index, tools=TOOLS, tool_choice="required")
        choice = client.json["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        (call,) = choice["message"]["tool_calls"]
        name = call["function"]["name"]
        jsonschema.validate(json.loads(call["function"]["arguments"]), known[name])
        called.append(name)

    await in_parallel(100, answer)
    assert len(called) == 100
    assert set(called) == set(known)


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"guided_regex": "(yes|no), [a-z]{3}"}, "(yes|no), [a-z]{3}"),
        ({"guided_choice": ["red", 'a "b"']}, 'red|a "b"'),
        ({"guided_grammar": 'start: "a"+ "b"', "logit_bias": {"66": 1}}, "a+b"),
        (
            {"guided_json": {"const": [1, "é"]}},
            '\\[1, ?"é"\\]|\\[ 1 ?, ?"é" ?\\]|\\[1 ?, ?"é" ?\\]',
        ),
        ({"response_format": {"type": "json_object"}, "max_tokens": 2}, r"\{.*"),
    ],
)
async def test_every_form_holds_streamed_and_whole(
    app: App, path: str, fields: dict[str, object], expected: str
) -> None:
    whole = (await ask(app, path, **fields)).json["choices"][0]
    text = whole["message"]["content"] if path == CHAT else whole["text"]
    assert re.fullmatch(expected, text, re.DOTALL)
    assert (await ask(app, path, stream=True, **fields)).text == text


async def test_each_of_several_answers_has_the_form(app: App) -> None:
    choices = (await ask(app, n=4, guided_regex="[a-z]{12}")).json["choices"]
    texts = {choice["message"]["content"] for choice in choices}
    assert len(texts) == 4
    assert all(re.fullmatch("[a-z]{12}", text) for text in texts)


async def test_a_stop_string_still_stops(app: App) -> None:
    choice = (await ask(app, guided_regex="ab{9}c", stop=["bbc"])).json["choices"][0]
    assert choice["message"]["content"] == "abbbbbbb"


async def test_a_required_call_is_the_same_streamed_and_whole(app: App) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    whole = (await ask(app, tools=TOOLS, tool_choice=named)).json["choices"][0]
    client = await ask(app, tools=TOOLS, tool_choice=named, stream=True)
    chunks = [
        json.loads(line[6:]) for line in client.body.decode().split("\n") if line[:7] == "data: {"
    ]
    first, begun, *rest = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    (call,) = begun["delta"]["tool_calls"]
    assert (call["index"], call["type"], call["function"]["arguments"]) == (0, "function", "")
    assert call["id"]
    assert rest.pop() == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}
    assert len(rest) > 5
    for chunk in rest:
        assert list(chunk["delta"]) == ["tool_calls"]
        (piece,) = chunk["delta"]["tool_calls"]
        call["function"]["arguments"] += piece["function"].pop("arguments")
        assert piece == {"index": 0, "function": {}}
    expected = whole["message"]["tool_calls"][0]["function"]
    assert call["function"] == expected


async def test_a_call_that_is_cut_short_is_told_as_that(app: App) -> None:
    choice = (await ask(app, tools=TOOLS, tool_choice="required", max_tokens=9)).json["choices"][0]
    assert choice["finish_reason"] == "length"


async def test_free_text_beside_tools_is_content(app: App) -> None:
    free = (await ask(app, max_tokens=20)).json["choices"][0]
    for choice in ("auto", "none"):
        told = (await ask(app, max_tokens=20, tools=TOOLS, tool_choice=choice)).json["choices"][0]
        assert told == free


async def test_log_probabilities_beside_a_call_are_all_told_once(app: App) -> None:
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "logprobs": True}
    client = await ask(app, stream=True, stream_options={"include_usage": True}, **asked)
    chunks = [
        json.loads(line[6:]) for line in client.body.decode().split("\n") if line[:7] == "data: {"
    ]
    told = [
        entry["token"]
        for chunk in chunks
        for choice in chunk["choices"]
        for entry in (choice["logprobs"] or {"content": []})["content"]
    ]
    assert len(told) == chunks[-1]["usage"]["completion_tokens"]
    assert json.loads("".join(told))["name"] in ("get_weather", "now")


async def test_a_bad_schema_is_refused_by_name_and_the_next_answer_is_right(app: App) -> None:
    bad = {"type": "array", "uniqueItems": True}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"response_format": formatted(bad)}, "response_format"),
        ({"guided_json": bad, "stream": True}, "guided_json"),
        ({"guided_regex": "(("}, "guided_regex"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": bad}}],
                "tool_choice": "required",
            },
            "tools",
        ),
    ]
    for fields, param in cases:
        client = await ask(app, **fields)
        assert client.status == 400
        assert client.json["error"]["param"] == param
    client = await ask(app, guided_regex="fine")
    assert client.json["choices"][0]["message"]["content"] == "fine"


CALLED: list[Any] = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "content": "5", "tool_call_id": "c"},
]


async def test_messages_with_calls_need_a_template_that_can_express_them(
    model: Model, tokenizer: Tokenizer, nursery: trio.Nursery
) -> None:
    template = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no') }}"
    template += "{% endif %}{% endfor %}"
    told = Tokenizer(tokenizer.vocabulary, template=template, bos="<|endoftext|>")
    engine = Engine(model, slots=1, max_len=1024, prefill_chunk=128)
    app = App(assemble(Settings(slots=1), "default", engine, told))
    nursery.start_soon(app.service.run)
    for message in CALLED[1:]:
        messages = [CALLED[0], message]
        for client in (
            await ask(app, messages=messages),
            await ask(app, messages=messages, stream=True),
            await fetch(post(app, "/tokenize", {"messages": messages})),
        ):
            assert (client.status, client.json["error"]["param"]) == (400, "messages")
            assert "template" in client.json["error"]["message"]


async def test_the_embedded_model_goes_on_from_what_a_tool_has_said(app: App) -> None:
    client = await ask(app, messages=CALLED, tools=TOOLS, max_tokens=20)
    assert client.status == 200
    assert client.json["choices"][0]["message"]["role"] == "assistant"


async def test_arguments_are_an_object_though_the_schema_does_not_say_so(app: App) -> None:
    parameters = {"properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    for seed in range(5):
        client = await ask(app, tools=[tool], tool_choice="required", seed=seed, max_tokens=900)
        (call,) = client.json["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"])["a"] in (1, 2)
