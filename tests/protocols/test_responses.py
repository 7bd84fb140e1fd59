"""OpenAI's responses: what is asked, refused and answered."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from penstock.errors import NOT_FOUND, PenstockError, internal
from penstock.events import Delta, Event, Failed, Finished, Usage
from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.blocks import read
from penstock.protocols.parts import call_id
from penstock.protocols.responses import parse
from penstock.protocols.responses_answer import StreamEncoder, WholeEncoder
from penstock.protocols.responses_head import Head
from penstock.protocols.responses_stored import follow_up, parse_after, parse_id
from penstock.protocols.thinking import ThinkingParser
from penstock.protocols.tool_calls import CallParser
from penstock.protocols.tool_formats import HERMES
from penstock.requests import GenerateRequest, Message, Sampling, Tools

from .asking import FUZZ, MARKER, check_error, refusal

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
JSON = {"format": {"type": "json_object"}}
PART = {"type": "input_text", "text": "6"}
HEAD = Head("7f", "default", 1767225600, {"metadata": {}})
TEXT = "Hi\u2028you"
PIECES: list[Event] = [Delta("Hi\u2028", (), 1), Delta("you", (), 2)]


def body(**fields: object) -> bytes:
    return json.dumps({"input": "Hi"} | fields).encode()


def test_the_least_that_can_be_asked() -> None:
    asked = parse(body())
    assert asked.request == GenerateRequest(messages=(Message("user", "Hi"),))
    assert not asked.stream


def test_everything_that_can_be_asked() -> None:
    asked = parse(
        body(
            model="m",
            instructions="Be kind.",
            input=[
                {"role": "developer", "content": "a"},
                {"role": "user", "content": [{"type": "input_text", "text": "b"}]},
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "c", "annotations": []}],
                },
            ],
            stream=True,
            max_output_tokens=5,
            temperature=0.5,
            top_p=0.9,
            store=True,
            metadata={"a": "b"},
            text={"format": {"type": "text"}, "verbosity": "low"},
            tools=[TOOL],
            tool_choice={"type": "function", "name": "f"},
            parallel_tool_calls=False,
            truncation="disabled",
            top_logprobs=0,
            background=True,
            previous_response_id="resp_0",
        )
    )
    roles, texts = ["system", "system", "user", "assistant"], ["Be kind.", "a", "b", "c"]
    assert asked.request == GenerateRequest(
        messages=tuple(map(Message, roles, texts)),
        model="m",
        max_tokens=5,
        sampling=Sampling(temperature=0.5, top_p=0.9),
        tools=Tools((FUNCTION,), forced=True, choice="f", parallel=False),
    )
    assert (asked.stream, asked.store, asked.background) == (True, True, True)
    assert asked.previous == "resp_0"
    assert asked.repeated == {
        "background": True,
        "instructions": "Be kind.",
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_0",
        "store": True,
        "temperature": 0.5,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [TOOL],
        "top_p": 0.9,
    }


def test_calls_and_what_they_have_said_come_back_as_messages() -> None:
    items = [
        {"role": "user", "content": "2?"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "5"},
        {"type": "function_call_output", "call_id": "c2", "output": [PART]},
    ]
    calls = tuple(
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": arguments}}
        for n, arguments in ((1, {"a": 1}), (2, {}))
    )
    assert parse(body(input=items)).request.messages == (
        Message("user", "2?"),
        Message("assistant", "I look.", calls),
        Message("tool", "5", (), "c1"),
        Message("tool", "6", (), "c2"),
    )


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "json_schema", "schema": {}}])
def test_a_format_binds_the_answer(form: dict[str, object]) -> None:
    grammar = parse(body(text={"format": form})).request.grammar
    assert grammar is not None
    assert (grammar.kind, grammar.param) == ("json", "text.format")


def test_a_format_binds_text_and_a_forced_call_has_none() -> None:
    """instructor sends both, with one schema."""
    free = parse(body(tools=[TOOL], text=JSON)).request
    forced = parse(body(tools=[TOOL], text=JSON, tool_choice="required")).request
    assert None not in (free.tools, free.grammar)
    assert forced.tools is not None
    assert (forced.tools.forced, forced.grammar) == (True, None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": MARKER, "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "item_reference"}]}, "input[0].type"),
        ({"input": [{"type": "function_call_output"}]}, "input[0].output"),
        ({"input": [{"type": "function_call"}]}, "input[0].tool_calls[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"n": 2}, "n"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": MARKER}}, "text.format"),
        ({"tools": [{"type": MARKER}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [TOOL], "tool_choice": {"type": MARKER}}, "tool_choice"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"conversation": MARKER}, "conversation"),
        ({"background": True, "store": False}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
    ids=str,
)
def test_refusals_name_the_field(fields: dict[str, object], param: str) -> None:
    assert refusal(parse, body(**fields)).param == param


def streamed(*events: Event, parser: AnswerParser | None = None) -> list[Any]:
    encoder = StreamEncoder(HEAD, parser)
    blocks = b"".join(map(encoder.encode, events)).decode("ascii").split("\n\n")
    assert blocks.pop() == ""
    told = []
    for block in blocks:
        name, data = block.split("\ndata: ")
        told.append(json.loads(data))
        assert name == f"event: {told[-1]['type']}"
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    return told


def whole(*events: Event) -> Any:  # noqa: ANN401
    encoder = WholeEncoder(HEAD)
    *_, last = map(encoder.encode, events)
    return json.loads(last)


@pytest.mark.parametrize(("reason", "status"), [("stop", "completed"), ("length", "incomplete")])
def test_a_stream_opens_and_closes_what_its_text_is_in(reason: Any, status: str) -> None:  # noqa: ANN401
    told = streamed(*PIECES, Finished(reason, Usage(9, 2), 2))
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        status,
    ]
    assert "".join(event["delta"] for event in told[4:6]) == TEXT == told[6]["text"]
    assert told[7]["part"] == told[8]["item"]["content"][0]
    assert told[8]["item"] == told[9]["response"]["output"][0]
    assert {event["item_id"] for event in told[3:8]} == {"msg_7f_0"}
    assert told[0]["response"]["status"] == told[2]["item"]["status"] == "in_progress"


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_the_whole_is_what_the_stream_ends_with(reason: Any) -> None:  # noqa: ANN401
    end = Finished(reason, Usage(9, 2), 2)
    told = whole(*PIECES, end)
    assert told == streamed(*PIECES, end)[-1]["response"]
    response = Response.model_validate(told)
    assert response.output_text == TEXT
    assert response.usage is not None
    assert response.usage.total_tokens == 11
    assert told["incomplete_details"] == (
        {"reason": "max_output_tokens"} if reason == "length" else None
    )


def test_an_empty_answer_and_a_failure_are_opened_too() -> None:
    assert len(streamed(Finished("stop", Usage(9, 1), 1))) == 8
    told = streamed(*PIECES, Failed(internal()))
    assert told[-1]["type"] == "response.failed"
    assert told[-1]["response"]["error"]["code"] == "internal_error"
    assert whole(Failed(internal()))["error"]["code"] == "internal_error"


SAID = '<think>hm</think>Well.<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


def parser() -> AnswerParser:
    return AnswerParser(ThinkingParser(opened=False), CallParser(HERMES, ["f"]))


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_thoughts_text_and_calls_are_items_of_their_own(size: int) -> None:
    pieces = [SAID[at : at + size] for at in range(0, len(SAID), size)]
    events: list[Event] = [Delta(piece, (), 1) for piece in pieces]
    told = streamed(*events, Finished("stop", Usage(9, 2), 2), parser=parser())
    added = [event["item"] for event in told if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in added] == ["reasoning", "message", "function_call"]
    assert {item["status"] for item in added} == {"in_progress"}
    output = told[-1]["response"]["output"]
    assert done == output
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert output[1]["content"][0]["text"] == "Well."
    assert (output[2]["name"], output[2]["arguments"]) == ("f", '{"a": 1}')
    assert len({item["id"] for item in output}) == 3
    for index, kind in enumerate(["reasoning_text", "output_text", "function_call_arguments"]):
        deltas = [event for event in told if event["type"] == f"response.{kind}.delta"]
        (end,) = (event for event in told if event["type"] == f"response.{kind}.done")
        whole = end["arguments"] if kind.startswith("function") else end["text"]
        assert "".join(event["delta"] for event in deltas) == whole != ""
        assert {event["output_index"] for event in (*deltas, end)} == {index}
    encoder = WholeEncoder(HEAD, parser())
    encoder.encode(Delta(SAID, (), 1))
    assert json.loads(encoder.encode(Finished("stop", Usage(9, 2), 2)))["output"] == output


def test_who_has_read_a_part_gets_the_rest_and_the_last_in_any_case() -> None:
    events = [*PIECES, Finished("stop", Usage(9, 2), 2)]
    told = streamed(*events)
    for after in (0, 5, 9, 1000):
        encoder = StreamEncoder(HEAD, after=after)
        data = b"".join(map(encoder.encode, events)).decode("ascii")
        rest = [json.loads(block.split("\ndata: ")[1]) for block in data.split("\n\n")[:-1]]
        assert rest == (told[after + 1 :] or told[-1:])


def test_a_conversation_goes_on_under_new_instructions() -> None:
    earlier = (Message("system", "Be short."), Message("user", "Hi"))
    head = Head("7f", "m", 1, {"instructions": "Be short."})
    asked = parse(body(input="So?", instructions="Be kind."))
    system, *rest = follow_up(earlier, head, read(SAID, parser()), asked)
    call = {
        "id": call_id("7f", 2),
        "type": "function",
        "function": {"name": "f", "arguments": {"a": 1}},
    }
    assert system == Message("system", "Be kind.")
    assert rest == [
        Message("user", "Hi"),
        Message("assistant", "Well.", (call,)),
        Message("user", "So?"),
    ]
    assert follow_up(earlier[1:], Head("7f", "m", 1, {}), read("A", None), parse(body())) == (
        Message("user", "Hi"),
        Message("assistant", "A"),
        Message("user", "Hi"),
    )


@pytest.mark.parametrize("told", ["", "resp_", "resp_zz", "job_00000000", "resp_" + "0" * 65])
def test_an_id_that_none_has_is_unknown(told: str) -> None:
    assert refusal(parse_id, told).kind is NOT_FOUND


@pytest.mark.parametrize("told", ["-1", "1.5", "x", "9" * 19, "\u0661"])
def test_a_place_is_a_number(told: str) -> None:
    assert refusal(parse_after, f"starting_after={quote(told)}".encode()).param == "starting_after"
    assert parse_after(b"stream=true&starting_after=7") == 7
    assert parse_after(b"") == -1


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
FIELDS = ["input", "instructions", "store", "text", "tools", "tool_choice", "metadata", "stop"]


@FUZZ
@given(changes=st.dictionaries(st.sampled_from(FIELDS), values), given_bytes=st.binary())
def test_any_body_gives_a_request_or_one_error(changes: dict[str, Any], given_bytes: bytes) -> None:
    for each in (body(**changes), given_bytes):
        try:
            parse(each)
        except PenstockError as error:
            check_error(error)
