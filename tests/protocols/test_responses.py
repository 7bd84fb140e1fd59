"""OpenAI's responses: what is asked, refused and answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from penstock.errors import PenstockError, internal
from penstock.events import Delta, Event, Failed, Finished, Usage
from penstock.protocols.responses import parse
from penstock.protocols.responses_answer import Head, StreamEncoder, WholeEncoder
from penstock.requests import GenerateRequest, Message, Sampling

from .asking import FUZZ, MARKER, check_error, refusal

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
            tools=[{"type": "function", "name": MARKER}],
            tool_choice="auto",
            truncation="disabled",
            top_logprobs=0,
            background=False,
        )
    )
    roles, texts = ["system", "system", "user", "assistant"], ["Be kind.", "a", "b", "c"]
    assert asked.request == GenerateRequest(
        messages=tuple(map(Message, roles, texts)),
        model="m",
        max_tokens=5,
        sampling=Sampling(temperature=0.5, top_p=0.9),
    )
    assert asked.stream
    assert asked.repeated == {
        "instructions": "Be kind.",
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": MARKER, "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "function_call_output"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"n": 2}, "n"),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"text": {"format": MARKER}}, "text"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"previous_response_id": MARKER}, "previous_response_id"),
        ({"conversation": MARKER}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
    ids=str,
)
def test_refusals_name_the_field(fields: dict[str, object], param: str) -> None:
    assert refusal(parse, body(**fields)).param == param


def streamed(*events: Event) -> list[Any]:
    encoder = StreamEncoder(HEAD)
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
    assert {event["item_id"] for event in told[3:8]} == {"msg_7f"}
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


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
FIELDS = ["input", "instructions", "max_output_tokens", "text", "tool_choice", "metadata", "stop"]


@FUZZ
@given(changes=st.dictionaries(st.sampled_from(FIELDS), values), given_bytes=st.binary())
def test_any_body_gives_a_request_or_one_error(changes: dict[str, Any], given_bytes: bytes) -> None:
    for each in (body(**changes), given_bytes):
        try:
            parse(each)
        except PenstockError as error:
            check_error(error)
