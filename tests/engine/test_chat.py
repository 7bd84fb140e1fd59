"""Chat templates: bounded in work and in text, with the options that they look at and no others."""

from __future__ import annotations

import pytest

from penstock.engine.chat import CHARACTERS, ChatTemplate, OptionError, TemplateError
from penstock.requests import Message

HI = [Message("user", "Hi")]
NESTED = (
    "{% for a in messages %}{% for b in messages %}{% if ? %}{% endif %}{% endfor %}{% endfor %}"
)


def make(source: str) -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": "<s>"})


def test_options_are_what_the_template_looks_at_beside_what_it_is_given() -> None:
    template = make("{{ bos_token }}{% if enable_thinking %}{{ range(depth) | list }}{% endif %}")
    assert template.options == ["depth", "enable_thinking"]
    assert template.render(HI) == "<s>"
    assert template.render(HI, (("enable_thinking", True), ("depth", 2))) == "<s>[0, 1]"


@pytest.mark.parametrize("name", ["tokenize", "messages", "tools", "bos_token", "range"])
def test_other_options_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(OptionError, match=r"knows these options: thinking$"):
        make("{{ thinking }}{{ messages }}").render(HI, ((name, True),))


@pytest.mark.parametrize(
    "source",
    [
        NESTED.replace("?", "b.role"),
        NESTED.replace("?", "b['role']"),
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(10 ** 15) %}{% endfor %}",
    ],
)
def test_work_is_bounded_and_the_next_rendering_has_all_of_it(source: str) -> None:
    template = make(source)
    with pytest.raises(TemplateError, match="takes too long"):
        template.render(HI * 2000)
    if "range" not in source:
        assert template.render(HI * 200) == ""


def test_text_is_bounded() -> None:
    template = make("{% for a in messages %}{{ messages[0].content }}{% endfor %}")
    long = Message("user", "x" * (CHARACTERS // 10))
    assert len(template.render([long] * 9)) > CHARACTERS // 2
    with pytest.raises(TemplateError, match="too long"):
        template.render([long] * 11)
