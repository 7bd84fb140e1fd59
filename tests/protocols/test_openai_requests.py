"""What may be asked of the two OpenAI routes, and how messages, prompts and stops are refused."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import INVALID_VALUE
from penstock.protocols.common import MAX_STOP_CHARACTERS
from penstock.protocols.openai import Asked, parse_chat, parse_completion
from penstock.requests import GenerateRequest, Message, Sampling

from .asking import MARKER, chat, completion, refusal

HI = (Message("user", "Hi"),)
OPTIONAL = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "seed": 3,
    "stop": ["x", "\n"],
    "ignore_eos": True,
    "n": 1,
    "logit_bias": {"0": -100, "4095": 0.5},
    "frequency_penalty": -0.5,
    "presence_penalty": 2,
    "repetition_penalty": 1.1,
    "min_p": 0.05,
}


def in_parts(part: object) -> list[object]:
    return [{"role": "user", "content": [part]}]


def test_the_least_that_can_be_asked() -> None:
    assert parse_chat(chat()) == Asked(GenerateRequest(messages=HI), False, False)
    prompt = GenerateRequest(prompt="Hi")
    assert parse_completion(completion()) == Asked(prompt, False, False)


def test_everything_that_can_be_asked() -> None:
    common: dict[str, Any] = {
        "model": "m",
        "max_tokens": 5,
        "sampling": Sampling(
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            min_p=0.05,
            repetition_penalty=1.1,
            frequency_penalty=-0.5,
            presence_penalty=2.0,
            logit_bias=((0, -100.0), (4095, 0.5)),
            seed=3,
        ),
        "stop": ("x", "\n"),
        "ignore_eos": True,
        "logprobs": 5,
    }
    in_chat = {"logprobs": True, "top_logprobs": 5, "tool_choice": "auto"}
    assert parse_chat(chat(**OPTIONAL, **in_chat, response_format={"type": "text"})) == Asked(
        GenerateRequest(messages=HI, **common), True, True
    )
    in_text = {"suffix": "", "echo": False, "logprobs": 5, "best_of": 1}
    assert parse_completion(completion(**OPTIONAL, **in_text)) == Asked(
        GenerateRequest(prompt="Hi", **common), True, True
    )


def test_what_says_off_is_off() -> None:
    off = {"min_p": 0, "repetition_penalty": 1, "frequency_penalty": 0, "logit_bias": {}}
    assert parse_completion(completion(**off)) == parse_completion(completion())
    assert parse_chat(chat(**off, logprobs=False, top_logprobs=0)) == parse_chat(chat())
    assert parse_chat(chat(logprobs=True)).request.logprobs == 0
    assert parse_completion(completion(logprobs=0)).request.logprobs == 0


def test_null_is_absent() -> None:
    chat_only = ("max_completion_tokens", "logprobs", "top_logprobs", "response_format")
    nulls = dict.fromkeys([*OPTIONAL, *chat_only, "tool_choice", "tools", "user"])
    assert parse_chat(chat(**nulls)) == parse_chat(chat())
    assert parse_chat(chat(stream_options={"include_usage": None})) == parse_chat(chat())
    text_only = ("suffix", "echo", "logprobs", "best_of")
    assert parse_completion(completion(**dict.fromkeys([*OPTIONAL, *text_only]))) == (
        parse_completion(completion())
    )


def test_unknown_fields_are_ignored_wherever_they_are() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hi", "x": 1}], "name": "Al"}
    asked = chat(
        messages=[message | {"tool_calls": [{}], "tool_call_id": "c", "cache_control": {"a": [1]}}],
        user=5,
        store=True,
        metadata={"a": {}},
        parallel_tool_calls=False,
        service_tier="auto",
        stream_options={"include_obfuscation": True},
        function_call="none",
    )
    assert parse_chat(asked) == parse_chat(chat())
    assert parse_completion(completion(messages=1, details={})) == parse_completion(completion())


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "max_completion_tokens": None}, 7),
    ],
)
def test_max_completion_tokens_wins(fields: dict[str, object], limit: int) -> None:
    assert parse_chat(chat(**fields)).request.max_tokens == limit


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "developer", "content": "Be brief"}, Message("system", "Be brief")),
        ({"role": "system", "content": ""}, Message("system", "")),
        ({"role": "tool", "content": "42"}, Message("tool", "42")),
        ({"role": "assistant"}, Message("assistant", "")),
        ({"role": "assistant", "content": None}, Message("assistant", "")),
        ({"role": "user", "content": []}, Message("user", "")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}] * 2}, Message("user", "aa")),
    ],
)
def test_messages(message: dict[str, object], expected: Message) -> None:
    assert parse_chat(chat(messages=[message])).request.messages == (expected,)


def test_empty_messages_count_towards_the_size_of_a_request() -> None:
    """They are rendered and tokenised too, and a large request must not be on the event loop."""
    many = [{"role": "user", "content": ""}] * 5000
    assert parse_chat(chat(messages=many)).request.characters >= 20_000


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ({}, "messages"),
        (MARKER, "messages"),
        ([MARKER], "messages[0]"),
        ([{}], "messages[0].role"),
        ([{"role": MARKER, "content": "a"}], "messages[0].role"),
        ([{"role": 5, "content": "a"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "assistant"}, {"role": "tool", "content": None}], "messages[1].content"),
        (in_parts(MARKER), "messages[0].content[0]"),
        (in_parts({}), "messages[0].content[0].type"),
        (in_parts({"type": "text"}), "messages[0].content"),
        (in_parts({"type": "text", "text": 1}), "messages[0].content[0].text"),
        (in_parts({"type": MARKER, "text": "a"}), "messages[0].content"),
        (in_parts({"type": "image_url", "image_url": {}}), "messages[0].content"),
    ],
)
def test_a_bad_message_is_named(messages: object, param: str) -> None:
    error = refusal(parse_chat, chat(messages=messages))
    assert (error.kind.status, error.param) == (400, param)


@pytest.mark.parametrize("prompt", ["Hi", ["Hi"]])
def test_a_prompt_is_a_string_or_a_list_of_one(prompt: object) -> None:
    assert parse_completion(completion(prompt=prompt)).request.prompt == "Hi"


@pytest.mark.parametrize(
    "prompt",
    [None, "", [], [""], ["a", "b"], [1, 2], [[1, 2]], [[]], [None], 5, {}, True, [MARKER] * 9],
)
def test_any_other_prompt_is_refused(prompt: object) -> None:
    error = refusal(parse_completion, completion(prompt=prompt))
    assert (error.kind, error.param) == (INVALID_VALUE, "prompt")


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (None, ()),
        ([], ()),
        ("\n\n", ("\n\n",)),
        (list("abcd"), ("a", "b", "c", "d")),
        ("x" * MAX_STOP_CHARACTERS, ("x" * MAX_STOP_CHARACTERS,)),
    ],
)
def test_stop(stop: object, expected: tuple[str, ...]) -> None:
    assert parse_chat(chat(stop=stop)).request.stop == expected


@pytest.mark.parametrize(
    ("stop", "param"),
    [
        ("", "stop"),
        (["a", ""], "stop"),
        (list("abcde"), "stop"),
        ([MARKER] * 10_000, "stop"),
        ("x" * (MAX_STOP_CHARACTERS + 1), "stop"),
        (5, "stop"),
        ({MARKER: 1}, "stop"),
        ([5], "stop[0]"),
        (["a", None], "stop[1]"),
    ],
)
def test_a_bad_stop_is_refused(stop: object, param: str) -> None:
    assert refusal(parse_chat, chat(stop=stop)).param == param


def test_options_for_the_chat_template_are_passed_on() -> None:
    asked = parse_chat(chat(chat_template_kwargs={"enable_thinking": False, "style": "x"}))
    assert asked.request.template_options == (("enable_thinking", False), ("style", "x"))


def test_a_suffix_makes_the_prompt_what_comes_before_a_gap() -> None:
    request = parse_completion(completion(prompt="a", suffix="b")).request
    assert (request.prompt, request.suffix) == ("a", "b")
    assert parse_completion(completion(prompt="", suffix="b")).request.prompt == ""
    assert parse_completion(completion(prompt="a", suffix="")).request.suffix is None


@pytest.mark.parametrize("prompt", [None, [], ["a", "b"], [1, 2], [[1]], [""]])
def test_a_gap_needs_one_text_before_it(prompt: object) -> None:
    error = refusal(parse_completion, completion(prompt=prompt, suffix="b"))
    assert (error.kind, error.param) == (INVALID_VALUE, "prompt")


def test_an_echo_is_the_prompt() -> None:
    assert parse_completion(completion(prompt="a", echo=True)).echo == "a"
    assert parse_completion(completion(prompt="a", echo=False)).echo == ""
