"""openai-python: what it asks, gets and is refused."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI

from .asked import PROMPT, STORY

DRAWS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.8, "seed": 7},
    {"temperature": 1, "seed": -3, "top_p": 0.9},
    {"temperature": 0, "stop": ["."]},
    {"temperature": 0, "stop": " named"},
]


def refused(client: OpenAI, **fields: Any) -> openai.APIStatusError:  # noqa: ANN401
    """What the server says to a chat request with these fields."""
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "default", "messages": STORY, **fields})
    return caught.value


@pytest.mark.parametrize("draw", DRAWS, ids=str)
def test_chat_is_the_same_streamed_and_whole(client: OpenAI, draw: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "default", "messages": STORY, "max_tokens": 40, **draw}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert reasons[-1] == whole.choices[0].finish_reason
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert chunks[-1].usage == whole.usage
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", None]


@pytest.mark.parametrize("draw", DRAWS, ids=str)
def test_completion_is_the_same_streamed_and_whole(client: OpenAI, draw: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "default", "prompt": PROMPT, "max_tokens": 40, **draw}
    whole = client.completions.create(**asked)
    chunks = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text != ""
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_stop_string_is_cut_off(client: OpenAI) -> None:
    whole = client.completions.create(
        model="default", prompt=PROMPT, max_tokens=40, temperature=0, stop=[" little"]
    )
    assert whole.choices[0].finish_reason == "stop"
    assert "little" not in whole.choices[0].text


def test_max_completion_tokens_wins_and_usage_adds_up(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default",
        messages=STORY,
        max_tokens=50,
        max_completion_tokens=5,
        extra_body={"ignore_eos": True},
    )
    usage = answer.usage
    assert usage is not None
    assert (answer.choices[0].finish_reason, usage.completion_tokens) == ("length", 5)
    assert usage.total_tokens == usage.prompt_tokens + 5


def test_content_parts_are_one_text(client: OpenAI) -> None:
    parts = [{"type": "text", "text": text} for text in ("Tell me a story", " about a dog.")]
    in_parts: list[Any] = [{"role": "user", "content": parts}]
    answers = [
        client.chat.completions.create(
            model="default", messages=messages, max_tokens=12, temperature=0
        )
        for messages in (STORY, in_parts)
    ]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["default"]
    assert client.models.retrieve("default").owned_by == "penstock"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", "invalid_value"),
        ({"messages": []}, openai.BadRequestError, "messages", "invalid_value"),
        ({"temperature": 3}, openai.BadRequestError, "temperature", "invalid_value"),
        ({"n": 17}, openai.BadRequestError, "n", "invalid_value"),
        ({"max_tokens": 5000}, openai.BadRequestError, "max_tokens", "context_length_exceeded"),
        ({"model": "gpt-4"}, openai.NotFoundError, "model", "model_not_found"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_name_the_field(
    client: OpenAI,
    fields: dict[str, Any],
    kind: type[openai.APIStatusError],
    param: str,
    code: str,
    *,
    stream: bool,
) -> None:
    error = refused(client, **fields, stream=stream)
    assert (type(error), error.param, error.code) == (kind, param, code)
    assert error.type == "invalid_request_error"


def test_stream_helper_accumulates(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "default", "messages": STORY, "temperature": 0}
    with client.chat.completions.stream(**asked, stop=["."]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    whole = client.chat.completions.create(**asked, stop=["."])
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].message.role == "assistant"
