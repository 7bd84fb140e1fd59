"""The messages of penstock.v1: which are malformed, which are refused, and the bytes of answers."""

from __future__ import annotations

import json

import pytest

from penstock.errors import CANCELLED, OVERLOADED, PenstockError, internal
from penstock.events import Delta, Failed, Finished, Token, Usage
from penstock.protocols import websocket
from penstock.protocols.websocket import (
    Ack,
    Cancel,
    MessageEncoder,
    ProtocolError,
    Pull,
    Resume,
    Start,
)
from penstock.requests import GenerateRequest, Message, Sampling

from .asking import MARKER, check_error


def start(**fields: object) -> Start:
    message = websocket.parse(json.dumps({"type": "start"} | fields))
    assert isinstance(message, Start)
    return message


def test_a_start_with_a_prompt() -> None:
    message = start(
        prompt="Hi",
        model="m",
        max_tokens=5,
        temperature=0,
        seed=-1,
        stop="x",
        ignore_eos=True,
        credits=3,
        resumable=False,
    )
    assert message.credits == 3
    assert message.request() == GenerateRequest(
        prompt="Hi",
        model="m",
        max_tokens=5,
        sampling=Sampling(temperature=0, seed=2**64 - 1),
        stop=("x",),
        ignore_eos=True,
    )


def test_a_start_with_all_that_changes_the_draw() -> None:
    message = start(
        prompt="Hi",
        min_p=0.1,
        repetition_penalty=1.2,
        frequency_penalty=1,
        presence_penalty=-1,
        logit_bias={"7": -100},
        logprobs=False,
        top_logprobs=0,
    )
    assert message.request().sampling == Sampling(
        min_p=0.1,
        repetition_penalty=1.2,
        frequency_penalty=1.0,
        presence_penalty=-1.0,
        logit_bias=((7, -100.0),),
    )


def test_a_start_with_messages() -> None:
    message = start(messages=[{"role": "developer", "content": "Hi"}])
    assert message.credits is None
    assert message.request() == GenerateRequest(messages=(Message("system", "Hi"),))


def test_null_is_absent_and_unknown_fields_are_ignored() -> None:
    nulls = dict.fromkeys(["messages", "model", "max_tokens", "stop", "credits", "resumable"])
    assert start(prompt="Hi", **nulls, wind=5) == start(prompt="Hi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"pull","n":1}', Pull(1)),
        ('{"n":9007199254740992,"type":"pull"}', Pull(2**53)),
        ('{"type":"ack","seq":17}', Ack(17)),
        ('{"type":"cancel"}', Cancel()),
        ('{"type":"cancel","job_id":1}', Cancel()),
        ('{"type":"resume","job_id":"job_1"}', Resume("job_1", 0)),
        ('{"type":"resume","job_id":"job_1","after":17,"credits":5}', Resume("job_1", 17, 5)),
    ],
)
def test_the_other_messages(text: str, message: websocket.ClientMessage) -> None:
    assert websocket.parse(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "5",
        "[]",
        "{}",
        '{"type":"start"',
        "\ud800",
        '{"type":"start","prompt":"\\ud800"}',
        '{"type":null}',
        '{"type":5}',
        f'{{"type":"{MARKER}"}}',
        '{"type":"' + "\U0001f600" * 500 + '"}',
        '{"type":"started"}',
        '{"type":"Start"}',
        f'{{"type":"start","prompt":{{"{MARKER}":1}}}}',
        '{"type":"start","max_tokens":"5"}',
        '{"type":"start","credits":1.5}',
        '{"type":"start","credits":true}',
        '{"type":"start","messages":[5]}',
        '{"type":"start","messages":[{"content":"x"}]}',
        '{"type":"pull"}',
        '{"type":"pull","n":0}',
        '{"type":"pull","n":1.0}',
        '{"type":"pull","n":null}',
        '{"type":"pull","n":9007199254740993}',
        '{"type":"ack"}',
        '{"type":"ack","seq":-1}',
        '{"type":"resume"}',
        '{"type":"resume","job_id":5}',
        '{"type":"resume","job_id":"x","after":-1}',
    ],
)
def test_a_malformed_message_gives_a_reason_that_fits_a_close_frame(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        websocket.parse(text)
    reason = str(caught.value)
    assert reason.isascii()
    assert 0 < len(reason.encode()) <= 123
    assert MARKER not in reason


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": MARKER, "content": "x"}]}, "messages[0].role"),
        ({"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 2**63}, "max_tokens"),
        ({"prompt": "x", "temperature": 3}, "temperature"),
        ({"prompt": "x", "top_p": 0}, "top_p"),
        ({"prompt": "x", "seed": 2**63}, "seed"),
        ({"prompt": "x", "stop": ""}, "stop"),
        ({"prompt": "x", "n": 2}, "n"),
        ({"prompt": "x", "credits": -1}, "credits"),
        ({"prompt": "x", "credits": 2**63}, "credits"),
        ({"prompt": "x", "window": 4}, "window"),
        ({"prompt": "x", "resumable": True, "window": 0}, "window"),
        ({"prompt": "x", "min_p": 2}, "min_p"),
        ({"prompt": "x", "logit_bias": {"-1": 5}}, "logit_bias"),
        ({"prompt": "x", "logprobs": True}, "logprobs"),
        ({"prompt": "x", "logprobs": 0}, "logprobs"),
        ({"prompt": "x", "top_logprobs": 2}, "top_logprobs"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "echo": True}, "echo"),
        ({"prompt": "x", "best_of": 2}, "best_of"),
        ({"prompt": "x", "tool_choice": "required"}, "tool_choice"),
        ({"prompt": "x", "tool_choice": {"function": {"name": "f"}}}, "tool_choice"),
        ({"prompt": "x", "max_completion_tokens": 0}, "max_completion_tokens"),
    ],
)
def test_a_start_with_a_bad_value_is_understood_and_refused(
    fields: dict[str, object], param: str
) -> None:
    message = start(**fields)
    with pytest.raises(PenstockError) as caught:
        message.request()
    check_error(caught.value)
    assert (caught.value.kind.status, caught.value.param) == (400, param)


def test_the_messages_of_a_generation() -> None:
    encoder = MessageEncoder("job_1", "default")
    assert encoder.started() == (b'{"type":"started","job_id":"job_1","model":"default","after":0}')
    assert encoder.heartbeat() == b""
    assert (
        encoder.encode(Delta(" two", (Token(1),), 1)) == b'{"type":"token","seq":1,"text":" two"}'
    )
    assert encoder.encode(Delta('"\u2028', (Token(2),), 2)) == (
        b'{"type":"token","seq":2,"text":"\\"\\u2028"}'
    )
    assert encoder.encode(Finished("length", Usage(4, 2), 2)) == (
        b'{"type":"complete","seq":3,"job_id":"job_1","finish_reason":"length",'
        b'"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}'
    )


def test_a_cancelled_generation_ends_with_cancelled() -> None:
    encoder = MessageEncoder("job_1", "default")
    encoder.encode(Delta("a", (Token(1),), 1))
    assert encoder.encode(Failed(PenstockError(CANCELLED, "cancelled"))) == (
        b'{"type":"cancelled","seq":2,"job_id":"job_1"}'
    )


def test_a_failed_generation_ends_with_error() -> None:
    assert MessageEncoder("job_1", "default").encode(Failed(internal())) == (
        b'{"type":"error","seq":1,"job_id":"job_1","error":{"message":"the server failed on this '
        b'request; its log says why","type":"server_error","param":null,"code":"internal_error"}}'
    )


def test_a_refusal_has_neither_seq_nor_job() -> None:
    error = PenstockError(OVERLOADED, "all places are taken", retry_after_s=7)
    assert websocket.refusal(error) == (
        b'{"type":"error","error":{"message":"all places are taken","type":"overloaded_error",'
        b'"param":null,"code":"overloaded","retry_after":7}}'
    )
