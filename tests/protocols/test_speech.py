"""How a model writes more than text: what its answers are held to, and what is read from them."""

from __future__ import annotations

from penstock.protocols.parts import Content, Reasoning
from penstock.protocols.speech import Speech
from penstock.protocols.tool_formats import HERMES, MISTRAL
from penstock.requests import GenerateRequest, Grammar, Message, Tools

ASKED = (Message("user", "Hi"),)
TOOLS = Tools(({"type": "function", "function": {"name": "f"}},))
FORCED = Tools(TOOLS.definitions, forced=True)
WORD = Grammar("regex", "[a-z]+")


def request(**fields: object) -> GenerateRequest:
    return GenerateRequest(messages=ASKED, **fields)  # type: ignore[arg-type]


def test_plain_answers_are_not_parsed() -> None:
    speech = Speech(HERMES)
    assert speech.parsers(request()) == []
    assert speech.shown(request()) == {}
    assert speech.grammar(request()) is None
    assert len(speech.parsers(request(tools=TOOLS, n=3))) == 3


def test_only_a_forced_call_is_held_to_a_grammar() -> None:
    speech = Speech(HERMES)
    assert speech.grammar(request(tools=TOOLS)) is None
    assert speech.grammar(request(tools=TOOLS, grammar=WORD)) is WORD
    forced = speech.grammar(request(tools=FORCED))
    assert forced is not None
    assert (forced.kind, forced.param) == ("lark", "tools")


def test_markers_that_are_special_tokens_are_shown_to_the_parser() -> None:
    speech = Speech(MISTRAL, special={"[TOOL_CALLS]": 5}.get)
    assert speech.shown(request(tools=TOOLS)) == {5: "[TOOL_CALLS]"}
    assert speech.shown(request()) == {}


def test_an_answer_that_is_held_to_a_grammar_has_no_thoughts() -> None:
    speech = Speech(thinks=True, opens_thinking=True)
    (free,) = speech.parsers(request())
    assert free.push("a</think>b") == [Reasoning("a"), Content("b")]
    (bound,) = speech.parsers(request(grammar=WORD))
    assert bound.push("abc") == [Content("abc")]
