"""Anthropic's messages: what is asked, refused and answered, byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import KINDS, PenstockError, internal
from penstock.events import Delta, Event, Failed, Finished, Usage
from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.anthropic import Asked, parse, parse_count, tell_error
from penstock.protocols.anthropic_answer import Head, StreamEncoder, WholeEncoder
from penstock.protocols.parts import call_id
from penstock.protocols.thinking import ThinkingParser
from penstock.protocols.tool_calls import CallParser
from penstock.protocols.tool_formats import HERMES
from penstock.requests import GenerateRequest, Message, Sampling, Tools

from .asking import ERROR_LIMIT, FUZZ, MARKER, check_error, refusal

HI: list[Any] = [{"role": "user", "content": "Hi"}]
HEAD = Head("7f", "default")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": SCHEMA},
}
TOOL = {"name": "f", "input_schema": SCHEMA}
RESULT: dict[str, object] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "5"}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}


def body(**fields: object) -> bytes:
    return json.dumps({"messages": HI, "max_tokens": 5} | fields).encode()


def test_the_least_that_can_be_asked() -> None:
    request = GenerateRequest(messages=(Message("user", "Hi"),), max_tokens=5)
    assert parse(body()) == Asked(request, stream=False)


def test_everything_that_can_be_asked() -> None:
    asked = body(
        model="m",
        system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "kind."}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "b"},
            *HI,
        ],
        stream=True,
        stop_sequences=["x"],
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        metadata={"user_id": MARKER},
        tools=[{"name": "f", "type": "custom", "description": "d", "input_schema": SCHEMA}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        thinking={"type": "disabled"},
    )
    roles = ["system", "user", "assistant", "user"]
    texts = ["Be\nkind.", "a", "b", "Hi"]
    assert parse(asked) == Asked(
        GenerateRequest(
            messages=tuple(map(Message, roles, texts)),
            model="m",
            max_tokens=5,
            sampling=Sampling(temperature=0.5, top_p=0.9, top_k=3),
            stop=("x",),
            tools=Tools((FUNCTION,), forced=True, choice="f", parallel=False),
        ),
        stream=True,
    )


def test_a_count_needs_no_max_tokens() -> None:
    asked = json.dumps({"messages": HI, "system": "Be kind."}).encode()
    messages = (Message("system", "Be kind."), Message("user", "Hi"))
    assert parse_count(asked) == GenerateRequest(messages=messages)


def test_calls_and_what_they_have_said_come_back_as_messages() -> None:
    turns = [
        *HI,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
            ],
        },
        {"role": "user", "content": [RESULT, {"type": "text", "text": "So?"}]},
    ]
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert parse(body(messages=turns)).request.messages == (
        Message("user", "Hi"),
        Message("assistant", "I look.", (call,)),
        Message("tool", "5", (), "toolu_1"),
        Message("user", "So?"),
    )
    parts = RESULT | {"content": [{"type": "text", "text": "5"}], "is_error": True}
    answered = parse(body(messages=[*turns[:2], {"role": "user", "content": [parts]}]))
    assert (answered.request.messages or ())[2:] == (Message("tool", "5", (), "toolu_1"),)


def test_a_schema_binds_the_answer() -> None:
    grammar = parse(body(output_config=FORMAT)).request.grammar
    assert grammar is not None
    assert (grammar.kind, grammar.param) == ("json", "output_config")


@pytest.mark.parametrize(
    ("choice", "forced"), [("auto", False), ("any", True), ("none", None)], ids=str
)
def test_what_a_choice_means(choice: str, forced: bool | None) -> None:
    tools = parse(body(tools=[TOOL], tool_choice={"type": choice})).request.tools
    assert (tools and tools.forced) is forced


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "system", "content": MARKER}]}, "messages[0].role"),
        ({"messages": [*HI, {"role": "assistant", "content": "I"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content"),
        ({"system": [{"type": "image"}]}, "system"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"stop_sequences": list("abcde")}, "stop_sequences"),
        ({"tool_choice": {"type": MARKER}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice"),
        ({"tools": [TOOL, {"type": "web_search_20250305", "name": "w"}]}, "tools[1].type"),
        ({"tools": [{"input_schema": SCHEMA}]}, "tools[0].name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": MARKER}}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config"),
        ({"output_config": {"format": {"type": MARKER}}}, "output_config"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]},
            "messages[0].content",
        ),
        (
            {"messages": [{"role": "user", "content": [RESULT | {"tool_use_id": None}]}]},
            "messages[0].content",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [RESULT | {"content": [{"type": "image"}]}]}
                ]
            },
            "messages[0].content",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}, "output_config": FORMAT}, "tool_choice"),
    ],
    ids=str,
)
def test_refusals_name_the_field(fields: dict[str, object], param: str) -> None:
    error = refusal(parse, body(**fields))
    assert error.param == param
    status, told = tell_error(error)
    assert status == 400
    assert json.loads(told)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_error_has_anthropics_shape(kind: Any) -> None:  # noqa: ANN401
    status, told = tell_error(PenstockError(kind, "é" * 5000))
    shown = json.loads(told)
    assert (shown["type"], set(shown["error"])) == ("error", {"type", "message"})
    assert len(told) < ERROR_LIMIT
    expected = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
    }
    assert shown["error"]["type"] == expected.get(
        status, "api_error" if status == 500 else "invalid_request_error"
    )


def streamed(*events: Event) -> str:
    encoder = StreamEncoder(HEAD)
    return b"".join(map(encoder.encode, events)).decode("ascii")


def event(name: str, rest: str = "") -> str:
    return f'event: {name}\ndata: {{"type":"{name}"{rest}}}\n\n'


def usage(prompt: int, made: int) -> str:
    return (
        f'"usage":{{"input_tokens":{prompt},"output_tokens":{made},'
        '"cache_creation_input_tokens":0,"cache_read_input_tokens":0}'
    )


OPENING = event(
    "message_start",
    ',"message":{"id":"msg_7f","type":"message","role":"assistant","model":"default",'
    '"content":[],"stop_reason":null,"stop_sequence":null,' + usage(0, 0) + "}",
) + event("content_block_start", ',"index":0,"content_block":{"type":"text","text":""}')


def ending(reason: str, stop: str, prompt: int, made: int) -> str:
    return (
        event("content_block_stop", ',"index":0')
        + event(
            "message_delta",
            f',"delta":{{"stop_reason":"{reason}","stop_sequence":{stop}}},' + usage(prompt, made),
        )
        + event("message_stop")
    )


def test_a_stream_byte_by_byte() -> None:
    told = streamed(Delta("Hi\u2028", (), 1), Delta('"', (), 2), Finished("length", Usage(9, 2), 2))
    deltas = [
        event("content_block_delta", f',"index":0,"delta":{{"type":"text_delta","text":{text}}}')
        for text in (r'"Hi\u2028"', r'"\""')
    ]
    assert told == OPENING + "".join(deltas) + ending("max_tokens", "null", 9, 2)


def test_an_empty_stream_has_the_block_too() -> None:
    told = streamed(Finished("stop", Usage(9, 1), 1))
    assert told == OPENING + ending("end_turn", "null", 9, 1)


def test_a_stop_sequence_is_named() -> None:
    told = streamed(Finished("stop", Usage(9, 1), 1, cut="END"))
    assert told == OPENING + ending("stop_sequence", '"END"', 9, 1)


def test_a_failure_and_a_heartbeat_are_named_events() -> None:
    assert streamed(Failed(internal())) == (
        'event: error\ndata: {"type":"error","error":{"type":"api_error",'
        '"message":"the server failed on this request; its log says why"}}\n\n'
    )
    assert StreamEncoder(HEAD).heartbeat() == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_a_whole_answer() -> None:
    encoder = WholeEncoder(HEAD)
    assert encoder.encode(Delta("Hi", (), 1)) == encoder.heartbeat() == b""
    told = json.loads(encoder.encode(Finished("stop", Usage(9, 2), 2, cut="x")))
    assert told["content"] == [{"type": "text", "text": "Hi"}]
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "x")
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (9, 2)


TEXT = '<think>hm</think>Well.<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


def parser() -> AnswerParser:
    return AnswerParser(ThinkingParser(opened=False), CallParser(HERMES, ["f"]))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_thoughts_text_and_calls_are_blocks_of_their_own(size: int) -> None:
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    events: list[Event] = [Delta(piece, (), 1) for piece in pieces]
    events.append(Finished("stop", Usage(9, 2), 2))
    encoder = StreamEncoder(HEAD, parser=parser(), prompt_tokens=lambda: 9)
    blocks = b"".join(map(encoder.encode, events)).decode("ascii").split("\n\n")[:-1]
    told = [json.loads(block.split("\ndata: ")[1]) for block in blocks]
    assert told[0]["message"]["usage"]["input_tokens"] == 9
    assert [(each["index"], each["content_block"]) for each in told if "content_block" in each] == [
        (0, {"type": "thinking", "thinking": "", "signature": ""}),
        (1, {"type": "text", "text": ""}),
        (2, {"type": "tool_use", "id": CALL_ID, "name": "f", "input": {}}),
    ]
    found = ["", "", ""]
    for each in told:
        if each["type"] == "content_block_delta":
            delta = each["delta"]
            field = delta["type"].removesuffix("_delta").replace("input_json", "partial_json")
            found[each["index"]] += delta[field]
    assert found == ["hm", "Well.", '{"a": 1}']
    closed = [each["index"] for each in told if each["type"] == "content_block_stop"]
    assert closed == [0, 1, 2]
    assert told[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


CALL_ID = f"toolu_{call_id('7f', 2)}"


def test_a_whole_answer_has_the_blocks_of_the_stream() -> None:
    encoder = WholeEncoder(HEAD, parser=parser())
    encoder.encode(Delta(TEXT, (), 1))
    told = json.loads(encoder.encode(Finished("stop", Usage(9, 2), 2)))
    assert told["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Well."},
        {"type": "tool_use", "id": CALL_ID, "name": "f", "input": {"a": 1}},
    ]
    assert told["stop_reason"] == "tool_use"


def test_a_call_that_was_cut_short_is_not_told_as_made() -> None:
    encoder = WholeEncoder(HEAD, parser=parser())
    encoder.encode(Delta(TEXT[:-20], (), 1))
    told = json.loads(encoder.encode(Finished("length", Usage(9, 2), 2)))
    assert told["content"][-1]["input"] == {}
    assert told["stop_reason"] == "max_tokens"


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
FIELDS = ["messages", "system", "max_tokens", "temperature", "tools", "tool_choice", "thinking"]


def attempt(given_bytes: bytes) -> None:
    for each in (parse, parse_count):
        try:
            each(given_bytes)
        except PenstockError as error:
            check_error(error)


@FUZZ
@given(changes=st.dictionaries(st.sampled_from(FIELDS), values))
def test_any_fields_give_a_request_or_one_error(changes: dict[str, Any]) -> None:
    attempt(body(**changes))


@FUZZ
@given(given_bytes=st.binary() | st.text().map(str.encode))
def test_any_bytes_give_a_request_or_one_error(given_bytes: bytes) -> None:
    attempt(given_bytes)
