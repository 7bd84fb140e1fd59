"""The bytes of OpenAI's answers: streamed and whole, chat and text, ended well and badly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from penstock.errors import UNAVAILABLE, PenstockError, internal
from penstock.events import Delta, Event, Failed, Finished, Token, Usage
from penstock.protocols.openai_answer import (
    Head,
    Shape,
    StreamEncoder,
    WholeEncoder,
    render_model,
)

CHAT = Head("chat", "7f3a", "default", 1767225600)
TEXT = Head("text", "1", "default", 1767225600)
TWO, THREE = Delta("Two", (Token(5),), 1), Delta(", three", (Token(6), Token(7)), 3)
END = Finished("stop", Usage(9, 6), 6)
HEAD = (
    '"id":"chatcmpl-7f3a","object":"chat.completion.chunk","created":1767225600,'
    '"model":"default","system_fingerprint":"penstock-1"'
)
TEXT_HEAD = (
    '"id":"cmpl-1","object":"text_completion","created":1767225600,'
    '"model":"default","system_fingerprint":"penstock-1"'
)
USAGE = '"usage":{"prompt_tokens":9,"completion_tokens":6,"total_tokens":15}'
ERROR = (
    '{"error":{"message":"the server failed on this request; its log says why",'
    '"type":"server_error","param":null,"code":"internal_error"}}'
)


def chunk(head: str, body: str, finish: str = "null") -> str:
    return (
        f'data: {{{head},"choices":[{{"index":0,{body},"logprobs":null,'
        f'"finish_reason":{finish}}}]}}\n\n'
    )


ROLE = chunk(HEAD, '"delta":{"role":"assistant","content":""}')
CHAT_TWO = chunk(HEAD, '"delta":{"content":"Two"}')
CHAT_THREE = chunk(HEAD, '"delta":{"content":", three"}')
CHAT_END = chunk(HEAD, '"delta":{}', '"stop"')
CHAT_USAGE = f'data: {{{HEAD},"choices":[],{USAGE}}}\n\n'
DONE = "data: [DONE]\n\n"


def streamed(head: Head, *events: Event, include_usage: bool = False) -> str:
    encoder = StreamEncoder(head, include_usage=include_usage)
    return b"".join(map(encoder.encode, events)).decode("ascii")


def whole(head: Head, *events: Event) -> str:
    encoder = WholeEncoder(head)
    return b"".join(map(encoder.encode, events)).decode("ascii")


def chunks(stream: str) -> list[dict[str, Any]]:
    lines = [block.removeprefix("data: ") for block in stream.split("\n\n") if block]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_a_chat_stream_is_role_then_text_then_finish_then_done() -> None:
    assert streamed(CHAT, TWO, THREE, END) == ROLE + CHAT_TWO + CHAT_THREE + CHAT_END + DONE


def test_usage_comes_last_and_without_choices_if_it_was_asked_for() -> None:
    told = streamed(CHAT, TWO, END, include_usage=True)
    assert told == ROLE + CHAT_TWO + CHAT_END + CHAT_USAGE + DONE


def test_a_chat_stream_without_text_still_has_role_and_finish() -> None:
    assert streamed(CHAT, END) == ROLE + CHAT_END + DONE


def test_the_role_chunk_goes_out_with_the_first_text_and_not_again() -> None:
    encoder = StreamEncoder(CHAT)
    assert encoder.encode(TWO).decode() == ROLE + CHAT_TWO
    assert encoder.heartbeat() == b": keep-alive\n\n"
    assert encoder.encode(THREE).decode() == CHAT_THREE
    assert encoder.encode(END).decode() == CHAT_END + DONE


def test_a_text_stream_has_neither_role_nor_delta() -> None:
    assert streamed(TEXT, TWO, Finished("length", Usage(9, 6), 6), include_usage=True) == (
        chunk(TEXT_HEAD, '"text":"Two"')
        + chunk(TEXT_HEAD, '"text":""', '"length"')
        + f'data: {{{TEXT_HEAD},"choices":[],{USAGE}}}\n\n'
        + DONE
    )


@pytest.mark.parametrize("head", [CHAT, TEXT])
def test_a_failure_is_one_error_event_and_no_done(head: Head) -> None:
    assert streamed(head, Failed(internal()), include_usage=True) == f"data: {ERROR}\n\n"
    told = streamed(head, TWO, Failed(internal()), include_usage=True)
    assert told.endswith(f"data: {ERROR}\n\n")
    assert told.count("finish_reason") == told.count('"finish_reason":null')
    assert "[DONE]" not in told


def test_an_error_says_when_to_come_back_where_that_is_known() -> None:
    error = PenstockError(UNAVAILABLE, "shutting down", retry_after_s=5)
    assert streamed(CHAT, Failed(error)) == (
        'data: {"error":{"message":"shutting down","type":"overloaded_error","param":null,'
        '"code":"unavailable","retry_after":5}}\n\n'
    )


@pytest.mark.parametrize("head", [CHAT, TEXT])
def test_a_good_stream_has_no_error_key_and_no_lines_but_data(head: Head) -> None:
    told = streamed(head, TWO, THREE, END, include_usage=True)
    assert all("error" not in each for each in chunks(told))
    assert {line.split(" ")[0] for line in told.split("\n") if line} == {"data:"}


def test_every_chunk_repeats_the_head_and_only_the_end_has_a_reason() -> None:
    told = chunks(streamed(CHAT, TWO, THREE, END, include_usage=True))
    head_keys = ("id", "object", "created", "model", "system_fingerprint")
    assert len({tuple(each[key] for key in head_keys) for each in told}) == 1
    reasons = [choice["finish_reason"] for each in told for choice in each["choices"]]
    assert reasons == [None, None, None, "stop"]
    roles = [choice["delta"].get("role") for each in told for choice in each["choices"]]
    assert roles == ["assistant", None, None, None]
    assert ["usage" in each for each in told] == [False, False, False, False, True]


def test_text_is_ascii_escaped_in_streams_and_whole() -> None:
    awkward = Delta('"\\\u2028\u2029\x85\U0001f600\n', (Token(1),), 1)
    escaped = '"\\"\\\\\\u2028\\u2029\\u0085\\ud83d\\ude00\\n"'
    assert f'"content":{escaped}' in streamed(CHAT, awkward)
    assert f'"text":{escaped}' in streamed(TEXT, awkward)
    assert f'"content":{escaped}' in whole(CHAT, awkward, END)


@pytest.mark.parametrize("model", ["\x00", "a\x00b", 'say "\\u0000"', "modèle"])
def test_a_strange_model_name_does_not_break_the_chunks(model: str) -> None:
    told = chunks(streamed(Head("chat", "1", model, 0), TWO, END))
    assert {each["model"] for each in told} == {model}
    assert told[1]["choices"][0]["delta"] == {"content": "Two"}


def test_a_whole_chat_answer() -> None:
    assert whole(CHAT, TWO, THREE, END) == (
        '{"id":"chatcmpl-7f3a","object":"chat.completion","created":1767225600,"model":"default",'
        '"system_fingerprint":"penstock-1","choices":[{"index":0,"message":{"role":"assistant",'
        '"content":"Two, three","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
        f"{USAGE}}}"
    )


def test_a_whole_text_answer() -> None:
    assert whole(TEXT, TWO, THREE, END) == (
        f'{{{TEXT_HEAD},"choices":[{{"index":0,"text":"Two, three","logprobs":null,'
        f'"finish_reason":"stop"}}],{USAGE}}}'
    )


@pytest.mark.parametrize("head", [CHAT, TEXT])
def test_a_whole_answer_is_silent_until_its_end_and_an_error_is_all_there_is(head: Head) -> None:
    encoder = WholeEncoder(head)
    assert encoder.encode(TWO) == encoder.heartbeat() == b""
    assert encoder.encode(Failed(internal())).decode() == ERROR


@pytest.mark.parametrize("shape", ["chat", "text"])
def test_streamed_and_whole_text_and_usage_are_equal(shape: Shape) -> None:
    head = Head(shape, "1", "default", 0)
    told = chunks(streamed(head, TWO, THREE, END, include_usage=True))
    answer = json.loads(whole(head, TWO, THREE, END))
    key = "content" if shape == "chat" else "text"
    pieces = [choice.get("delta", choice) for each in told for choice in each["choices"]]
    [choice] = answer["choices"]
    assert "".join(piece.get(key, "") for piece in pieces) == choice.get("message", choice)[key]
    assert told[-1]["usage"] == answer["usage"]


def test_openai_python_takes_every_answer_as_its_own_types() -> None:
    for each in chunks(streamed(CHAT, TWO, END, include_usage=True)):
        ChatCompletionChunk.model_validate(each, strict=True)
    ChatCompletion.model_validate(json.loads(whole(CHAT, TWO, END)), strict=True)
    Completion.model_validate(json.loads(whole(TEXT, TWO, END)), strict=True)


def test_a_model_as_v1_models_lists_it() -> None:
    listed = {"id": "m", "object": "model", "created": 5, "owned_by": "penstock"}
    assert render_model("m", 5) == listed


def test_an_echo_is_the_first_text_of_every_choice() -> None:
    encoder = StreamEncoder(TEXT, n=2, echo="Hi")
    first, second = (
        chunk(TEXT_HEAD, '"text":"Hi"').replace('"index":0', f'"index":{choice}')
        for choice in range(2)
    )
    told = encoder.encode(Delta("Two", (), 1)).decode()
    assert told == first + second + chunk(TEXT_HEAD, '"text":"Two"')
    assert "Hi" not in encoder.encode(END).decode()
    whole = WholeEncoder(TEXT, echo="Hi")
    assert whole.encode(TWO) == b""
    assert json.loads(whole.encode(END))["choices"][0]["text"] == "HiTwo"
