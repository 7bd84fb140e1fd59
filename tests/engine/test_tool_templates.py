"""Tools and their calls in chat templates, and special tokens shown as text."""

from __future__ import annotations

import pytest

from penstock.engine.chat import TemplateError
from penstock.engine.text import TextStream
from penstock.engine.tokenizer import Tokenizer
from penstock.requests import Message

TEMPLATE = (
    "{% for tool in tools or [] %}[{{ tool | tojson }}]{% endfor %}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}{% endfor %}"
    "{% if m.tool_call_id is defined %}({{ m.name }} {{ m.tool_call_id }}){% endif %};{% endfor %}"
)
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}


def rendered(tokenizer: Tokenizer, template: str, *messages: Message, tools: int = 0) -> str:
    told = Tokenizer(tokenizer.vocabulary, template=template, bos="")
    ids = told.encode_chat(messages, (), [{"number": index} for index in range(tools)])
    text: str = tokenizer.vocabulary.decode(ids)
    return text


def test_tools_calls_and_results_reach_the_template(tokenizer: Tokenizer) -> None:
    messages = [
        Message("user", "x"),
        Message("assistant", "", (CALL,)),
        Message("tool", "5", (), "c", "f"),
    ]
    assert rendered(tokenizer, TEMPLATE, *messages, tools=1) == (
        '[{"number": 0}]user:x;'
        'assistant:<tool_call>{"name": "f", "arguments": {"a": 1}};tool:5(f c);'
    )


def test_no_tools_are_none_to_the_template(tokenizer: Tokenizer) -> None:
    assert rendered(tokenizer, "{{ tools is none }}", Message("user", "x")) == "True"


def test_calls_that_a_template_would_lose_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TemplateError, match="tool_calls"):
        rendered(tokenizer, "{{ messages[0].content }}", Message("assistant", "x", (CALL,)))


@pytest.mark.parametrize(
    ("template", "opens"),
    [
        ("{{ messages[0].content }}<think>\n", True),
        ("{{ messages[0].content }}<think>\n\n</think>\n", False),
        ("{% if false %}<think>{% endif %}x", False),
        ("{{ raise_exception('no') }}<think>", False),
        ("plain", False),
    ],
)
def test_a_template_that_opens_the_thoughts_is_known(
    tokenizer: Tokenizer, template: str, *, opens: bool
) -> None:
    assert Tokenizer(tokenizer.vocabulary, template=template, bos="").opens_thinking is opens


def test_a_special_token_has_text_only_where_it_is_shown(tokenizer: Tokenizer) -> None:
    hello = tokenizer.vocabulary.encode("Hello", add_special_tokens=False).ids
    ids = [*hello, 4, *hello]
    for shown, expected in (({}, "HelloHello"), ({4: "<end>"}, "Hello<end>Hello")):
        text = TextStream(tokenizer.vocabulary, [], shown)
        assert "".join(map(text.push, ids)) + text.flush() == expected
