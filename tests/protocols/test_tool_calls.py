"""Calls of tools in an answer's text: found whole, whatever the pieces it comes in."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.answer_parser import AnswerParser
from penstock.protocols.parts import Arguments, Call, Content, Part, Reasoning
from penstock.protocols.thinking import ThinkingParser
from penstock.protocols.tool_calls import CallParser
from penstock.protocols.tool_formats import BARE, HERMES, LLAMA, MISTRAL, CallFormat, detect

from .asking import FUZZ

NAMES = ("f", "g")
CALL = '{"name": "f", "arguments": {"x": "a}\\"{<tool_call>", "y": [1, {"z": 2}]}}'
GIVEN = '{"x": "a}\\"{<tool_call>", "y": [1, {"z": 2}]}'
ONE: list[Part] = [Call(0, "f"), Arguments(0, '{"a": 1}')]
TWO: list[Part] = [*ONE, Call(1, "g"), Arguments(1, "{}")]

CASES: list[tuple[CallFormat, str, list[Part]]] = [
    (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", [Call(0, "f"), Arguments(0, GIVEN)]),
    (
        HERMES,
        'Well.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>\n',
        [Content("Well."), *TWO],
    ),
    (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', ONE),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', ONE),
    (HERMES, '<tool_call>{"id": 5, "name": "f", "arguments": {"a": 1}', ONE),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}} so', [*ONE, Content(" so")]),
    (HERMES, '<tool_call>{"name": "f"}', [Call(0, "f"), Arguments(0, "{}")]),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a"', [Call(0, "f"), Arguments(0, '{"a"')]),
    (MISTRAL, '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]', ONE),
    (
        MISTRAL,
        '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]',
        TWO,
    ),
    (LLAMA, '{"name": "f", "parameters": {"a": 1}}', ONE),
    (LLAMA, '<|python_tag|>{"name": "f", "parameters": {"a": 1}}; {"name": "g"}', TWO),
    (BARE, ' {"name": "f", "arguments": {"a": 1}}', ONE),
]
CONTENT = [
    (HERMES, "a < b <tool_ca and <tool_call>{'name': 5}</tool_call> x"),
    (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"na'),
    (HERMES, '<tool_call>{"name": "\x00\\q"}'),
    (HERMES, "x  <tool_c"),
    (HERMES, '{"name": "f", "arguments": {}}'),
    (HERMES, '<tool_call>{"arguments": {}}'),
    (HERMES, '<tool_call>{"arguments": 5, "name": "f"}'),
    (HERMES, "<tool_call><tool_call>"),
    (MISTRAL, "text [TOOL_CALLS]oops"),
    (MISTRAL, "text [TOOL_CALLS] ["),
    (LLAMA, '{"name": "unknown", "parameters": {}}'),
    (LLAMA, '  {"foo": 1} bar'),
    (LLAMA, "<|python the"),
    (LLAMA, "<|python_tag|> print(1)"),
    (LLAMA, 'hello {"name": "f", "parameters": {}}'),
    (BARE, "  "),
]
THOUGHTS: list[tuple[bool, str, list[Part]]] = [
    (False, "<think>\nhm</think>\n\nHi <think>", [Reasoning("\nhm"), Content("Hi <think>")]),
    (True, "hm < </th</think>\n\nHi", [Reasoning("hm < </th"), Content("Hi")]),
    (True, "endless</thin", [Reasoning("endless</thin")]),
    (False, "  <thin", [Content("  <thin")]),
    (False, "no", [Content("no")]),
    (False, "<think></think>\n\n", []),
]


def joined(parts: list[Part]) -> list[Part]:
    """Neighbouring pieces of the same thing as one."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        match last, part:
            case Content(), Content():
                whole[-1] = Content(last.text + part.text)
            case Reasoning(), Reasoning():
                whole[-1] = Reasoning(last.text + part.text)
            case Arguments(), Arguments() if last.index == part.index:
                whole[-1] = Arguments(part.index, last.text + part.text)
            case _:
                whole.append(part)
    return whole


def read(parser: AnswerParser, pieces: list[str]) -> list[Part]:
    return joined([*chain.from_iterable(map(parser.push, pieces)), *parser.flush()])


def calls(form: CallFormat) -> AnswerParser:
    return AnswerParser(None, CallParser(form, NAMES))


def thoughts(*, opened: bool) -> AnswerParser:
    return AnswerParser(ThinkingParser(opened=opened), None)


def splits(text: str) -> list[list[str]]:
    return [[text[:at], text[at:]] for at in range(len(text) + 1)] + [[*text]]


@pytest.mark.parametrize(("form", "text", "parts"), CASES)
def test_calls_are_found_whatever_the_split(form: CallFormat, text: str, parts: list[Part]) -> None:
    for pieces in splits(text):
        parser = calls(form)
        assert read(parser, pieces) == parts, pieces
        assert parser.called


@pytest.mark.parametrize(("form", "text"), CONTENT)
def test_what_is_no_call_is_content_to_the_last_character(form: CallFormat, text: str) -> None:
    for pieces in splits(text):
        parser = calls(form)
        assert read(parser, pieces) == [Content(text)], pieces
        assert not parser.called


@given(st.text('<tool_call>{"name: f,arguments} \\\n', max_size=60), st.data())
@FUZZ
def test_any_text_gives_the_same_parts_however_it_is_split(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    for form in (HERMES, MISTRAL, LLAMA, BARE):
        whole = read(calls(form), [text])
        assert read(calls(form), [text[:cut], text[cut:]]) == whole
        assert read(calls(form), [*text]) == whole


def test_arguments_are_given_out_as_they_come_and_no_part_of_a_marker_is() -> None:
    parser = calls(HERMES)
    assert parser.push("Hi <tool") == [Content("Hi")]
    assert parser.push('_call>{"name": "f", "argu') == [Call(0, "f")]
    assert parser.push('ments": {"a') == [Arguments(0, '{"a')]
    assert parser.push('": 1}') == [Arguments(0, '": 1}')]
    assert parser.push("}\n</tool_") == []
    assert parser.push("call>") == []
    assert parser.flush() == []


@pytest.mark.parametrize(("opened", "text", "parts"), THOUGHTS)
def test_thoughts_are_told_apart_whatever_the_split(
    *, opened: bool, text: str, parts: list[Part]
) -> None:
    for pieces in splits(text):
        assert read(thoughts(opened=opened), pieces) == parts, pieces


def test_a_call_behind_thoughts_is_one_and_a_call_in_thoughts_is_none() -> None:
    call = '<tool_call>{"name": "g", "arguments": {}}</tool_call>'
    text = f"<think>{call}</think>\n{call}"
    for pieces in splits(text):
        parser = AnswerParser(ThinkingParser(opened=False), CallParser(HERMES, NAMES))
        assert read(parser, pieces) == [Reasoning(call), Call(0, "g"), Arguments(0, "{}")]


@pytest.mark.parametrize(
    ("template", "vocabulary", "family"),
    [
        ("… <tool_call>\\n …", set(), HERMES),
        ("… [TOOL_CALLS] …", set(), MISTRAL),
        ("… <|python_tag|> …", set(), LLAMA),
        ("""'{"name": "' + '"parameters": ' …""", {"<|python_tag|>"}, LLAMA),
        ("plain", {"<tool_call>"}, HERMES),
        ("plain", {"[TOOL_CALLS]"}, MISTRAL),
        ("plain", set(), BARE),
    ],
)
def test_the_family_is_told_by_the_template_or_the_vocabulary(
    template: str, vocabulary: set[str], family: CallFormat
) -> None:
    assert detect(template, vocabulary.__contains__) == family
