"""Tools in requests: what they mean, what is refused, and the grammar of a call that must be."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import INVALID_VALUE
from penstock.protocols.openai import parse_chat
from penstock.protocols.tool_formats import BARE, HERMES, LLAMA, MISTRAL, CallFormat
from penstock.protocols.tools import tool_grammar
from penstock.requests import Message, Tools

from .asking import MARKER, chat, refusal

FUNCTION: dict[str, Any] = {
    "name": "f",
    "description": "what it does",
    "parameters": {"type": "object", "properties": {"description": {"type": "string"}}},
}
TOOL = {"type": "function", "function": FUNCTION}
OTHER = {"type": "function", "function": {"name": "g"}}
NAMED = {"type": "function", "function": {"name": "g"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def parsed(**fields: object) -> Tools | None:
    return parse_chat(chat(**fields)).request.tools


def test_what_a_choice_means() -> None:
    tools = [TOOL, OTHER]
    definitions = (TOOL, OTHER)
    assert parsed(tools=tools) == Tools(definitions)
    assert parsed(tools=tools, tool_choice="auto") == Tools(definitions)
    assert parsed(tools=tools, tool_choice="required") == Tools(definitions, forced=True)
    assert parsed(tools=tools, tool_choice=NAMED) == Tools(definitions, forced=True, choice="g")
    assert parsed(tools=tools, parallel_tool_calls=False) == Tools(definitions, parallel=False)
    assert parsed(tools=tools, tool_choice="none") is None
    assert parsed(tools=[]) is None


def test_calls_and_results_in_messages() -> None:
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "5", "tool_call_id": "c1", "name": "f"},
    ]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert parse_chat(chat(messages=messages)).request.messages == (
        Message("assistant", "", (call,)),
        Message("tool", "5", (), "c1", "f"),
    )


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [TOOL, {"type": MARKER, "function": FUNCTION}]}, "tools[1].type"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [TOOL] * 129}, "tools"),
    ({"tools": [TOOL], "tool_choice": MARKER}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": "required", "guided_regex": "a"}, "tool_choice"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_is_refused(fields: dict[str, object], param: str) -> None:
    error = refusal(parse_chat, chat(**fields))
    assert (error.kind, error.param) == (INVALID_VALUE, param)


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "text"}])
def test_a_format_binds_text_and_a_forced_call_has_none(form: dict[str, str]) -> None:
    """Clients send both: the format is that of answers that are no call."""
    both = {"tools": [TOOL], "response_format": form}
    forced = parse_chat(chat(**both, tool_choice="required")).request
    assert forced.tools is not None
    assert (forced.tools.forced, forced.grammar) == (True, None)
    assert (parse_chat(chat(**both)).request.grammar is None) == (form["type"] == "text")
    error = refusal(parse_chat, chat(**both | {"response_format": {}}, tool_choice="required"))
    assert error.param == "response_format.type"


@pytest.mark.parametrize(
    "call",
    [{}, {"function": MARKER}, {"function": {}}, {"function": {"name": "f", "arguments": "{"}}],
)
def test_a_broken_call_in_a_message_is_refused(call: object) -> None:
    messages = [{"role": "assistant", "tool_calls": [call]}]
    error = refusal(parse_chat, chat(messages=messages))
    assert str(error.param).startswith("messages[0].tool_calls[0]")


@pytest.mark.parametrize(
    ("form", "start"),
    [
        (BARE, "start: call"),
        (LLAMA, "start: call"),
        (HERMES, r'start: <[7]> "\n" call "\n" "</tool_call>"'),
        (MISTRAL, 'start: "[TOOL_CALLS]" "[" call  "]"'),
    ],
)
def test_the_grammar_of_a_call(form: CallFormat, start: str) -> None:
    tools = Tools((TOOL, OTHER), forced=True, parallel=False)
    lines = tool_grammar(tools, form, {"<tool_call>": 7}.get).text.split("\n")
    assert lines[0] == start
    assert lines[1] == "call: call0 | call1"
    assert lines[2].startswith(rf'call0: "{{\"name\": \"f\", \"{form.arguments}\": " args0')
    assert '"properties":{"description":{"type":"string"}}' in lines[3]
    assert lines[5].endswith('"type":"object"}')


def test_a_named_function_is_the_only_one_in_the_grammar() -> None:
    tools = Tools((TOOL, OTHER), forced=True, choice="g")
    text = tool_grammar(tools, BARE, lambda text: None).text
    assert r"\"g\"" in text
    assert r"\"f\"" not in text


def test_parameters_that_cannot_be_enforced_matter_only_where_a_call_must_be() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"const": "x" * 3000}}}
    tools = parsed(tools=[tool])
    assert tools is not None
    error = refusal(lambda given: tool_grammar(given, BARE, lambda text: None), tools)
    assert error.param == "tools"
