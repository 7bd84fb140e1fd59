"""openai-python and huggingface_hub: answers with a form, and calls of tools."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from huggingface_hub import InferenceClient
from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel, ConfigDict, Field

from .asked import STORY
from .servers import Server


class Pet(BaseModel):
    """What a pet is like."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=12)
    kind: Literal["dog", "cat"]
    legs: int = Field(ge=0, le=4)


TOOL = pydantic_function_tool(Pet, name="describe")
ASKED: dict[str, Any] = {"model": "default", "messages": STORY, "max_tokens": 200, "seed": 4}


def test_openai_parses_an_answer_into_its_class(client: OpenAI) -> None:
    whole = client.chat.completions.parse(**ASKED, response_format=Pet)
    parsed = whole.choices[0].message.parsed
    assert isinstance(parsed, Pet)
    with client.chat.completions.stream(**ASKED, response_format=Pet) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.parsed == parsed


def test_openai_gets_a_required_call_streamed_and_whole(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "tools": [TOOL], "tool_choice": "required"}
    whole = client.chat.completions.parse(**asked).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    (call,) = whole.message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Pet)
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.done" in kinds
    (other,) = streamed.message.tool_calls or []
    assert other.function.parsed_arguments == call.function.parsed_arguments
    assert streamed.finish_reason == "tool_calls"


def test_openai_learns_which_field_was_wrong(client: OpenAI) -> None:
    schema = {"name": "x", "schema": {"type": "array", "uniqueItems": True}}
    form: Any = {"type": "json_schema", "json_schema": schema}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASKED, response_format=form)
    assert caught.value.param == "response_format"
    assert "uniqueItems" in caught.value.message


def test_huggingface_gets_a_form_and_a_call(server: Server) -> None:
    hub: Any = InferenceClient(server.url)
    schema = Pet.model_json_schema()
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}
    fields = {"max_tokens": 200, "seed": 4}
    with hub:
        answer = hub.chat_completion(STORY, response_format=form, **fields)
        called = hub.chat_completion(STORY, tools=[TOOL], tool_choice="required", **fields)
        pieces = [
            chunk.choices[0].delta
            for chunk in hub.chat_completion(
                STORY, tools=[TOOL], tool_choice="required", stream=True, **fields
            )
        ]
    Pet.model_validate_json(answer.choices[0].message.content)
    (call,) = called.choices[0].message.tool_calls
    assert call.function.name == "describe"
    Pet.model_validate(json.loads(call.function.arguments))
    streamed = [delta.tool_calls[0].function.arguments for delta in pieces if delta.tool_calls]
    assert "".join(streamed) == call.function.arguments
