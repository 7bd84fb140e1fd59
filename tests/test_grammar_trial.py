"""Grammars from outside: the worst of them is refused in time, and disturbs nobody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from penstock import grammar_trial
from penstock.engine import grammar, grammar_child
from penstock.engine.grammar import Grammars
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import INVALID_VALUE, PenstockError
from penstock.grammar_trial import KEPT, GrammarTrial
from penstock.protocols.schemas import lean_schema
from penstock.reader import TokenSequence
from penstock.requests import Grammar
from tests.peers import make_decoder, make_engine, make_prompt

ENDLESS = {"allOf": [{"type": "string", "pattern": f"^.*a.{{{i}}}b.*$"} for i in range(3, 103)]}
"""An intersection of a hundred patterns: minutes of compiling that nothing can interrupt."""


@pytest.fixture(scope="module")
def grammars(model: Model, tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer.vocabulary, model.spec.vocab_size, model.spec.eos_ids)


def schema(value: object) -> Grammar:
    return Grammar("json", lean_schema(value, "guided_json"), "guided_json")


def chain_of(count: int) -> dict[str, object]:
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(count)}
    return {"$defs": links | {f"d{count}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


def children() -> set[str]:
    """The processes that this one has started and not waited for, by their ids."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


async def exhaust(sequence: TokenSequence) -> None:
    while True:
        await sequence.next_token()


async def refused(trial: GrammarTrial, wrong: Grammar) -> str:
    with trio.fail_after(20), pytest.raises(PenstockError) as caught:
        await trial.compile(wrong)
    assert caught.value.kind is INVALID_VALUE
    assert caught.value.param == wrong.param
    return caught.value.message


HOSTILE = [
    schema(ENDLESS),
    schema({"type": "integer", "multipleOf": 1_000_003}),
    schema({"type": "object", "properties": {f"p{i}": {} for i in range(1500)}}),
    Grammar("json", json.dumps(chain_of(10_000)), "guided_json"),
    schema({"allOf": [{"anyOf": [{"const": f"{i}{j}"} for j in "ab"]} for i in range(100)]}),
    Grammar("regex", "(a|b)?" * 300, "guided_regex"),
    Grammar("regex", "(" * 1000 + "a" + ")*" * 1000, "guided_regex"),
    Grammar("lark", "start: " + "(" * 7000 + '"a"' + ")" * 7000, "guided_grammar"),
    Grammar("lark", "start: start", "guided_grammar"),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
async def test_what_would_take_too_much_is_refused_in_time(
    grammars: Grammars, hostile: Grammar
) -> None:
    await refused(GrammarTrial(grammars, patience_s=1), hostile)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems, which cannot be enforced"),
        ({"type": "marker"}, "not valid"),
        ({"type": "string", "pattern": "(marker"}, "not valid"),
        ({"type": "string", "pattern": "(?=marker)"}, "not valid"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "not valid, or nothing can satisfy it"),
        ({"$ref": "http://127.0.0.1:1/marker"}, "not valid"),
        ({"$ref": "#"}, "not valid"),
        ({"oneOf": [{"type": "object"}, {"type": "object"}]}, "not valid"),
    ],
)
async def test_the_answer_says_what_is_wrong_and_quotes_nothing(
    grammars: Grammars, value: object, told: str
) -> None:
    message = await refused(GrammarTrial(grammars, patience_s=20), schema(value))
    assert told in message
    assert "marker" not in message


async def test_streams_go_on_while_a_grammar_is_tried(model: Model, grammars: Grammars) -> None:
    """The trial would take minutes; a whole answer is decoded meanwhile."""
    trial = GrammarTrial(grammars, patience_s=600)
    decoder = make_decoder(make_engine(model))
    ended = trio.Event()
    others = children()

    async def attempt() -> None:
        await trial.compile(schema(ENDLESS))
        ended.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(decoder.run)
            nursery.start_soon(attempt)
            with decoder.open(make_prompt(max_tokens=100)) as [sequence]:
                for _ in range(100):
                    await sequence.next_token()
            assert not ended.is_set()
            assert children() > others
            nursery.cancel_scope.cancel()
    assert children() == others  # cancelling killed it, and it was waited for


async def test_one_that_becomes_too_much_ends_its_own_stream_and_is_told_why(
    model: Model, grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure of the model, so nobody asks the model whether it is well."""
    monkeypatch.setitem(grammar.LIMITS, "max_lexer_states", 1000)
    constraint = grammars.compile(Grammar("regex", "(.|\\n)*a(.|\\n){300}x", "guided_regex"))
    decoder = make_decoder(make_engine(model))
    prompt = replace(make_prompt(temperature=1.0, max_tokens=150), constraint=constraint)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(decoder.run)
            with decoder.open(prompt) as [sequence]:
                with pytest.raises(PenstockError) as caught:
                    await exhaust(sequence)
                assert (caught.value.kind, caught.value.param) == (INVALID_VALUE, "guided_regex")
                assert not decoder.suspect
            nursery.cancel_scope.cancel()


async def test_a_child_that_cannot_run_is_the_servers_fault(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grammar_trial, "LIBRARY", "/nowhere")
    await refused(GrammarTrial(grammars, patience_s=20), Grammar("regex", "a"))
    assert "could not be tried" in caplog.text


async def test_one_that_takes_its_time_does_not_keep_others_waiting(grammars: Grammars) -> None:
    trial = GrammarTrial(grammars, patience_s=600)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trial.compile, schema(ENDLESS))
            await trio.testing.wait_all_tasks_blocked()
            await trial.compile(Grammar("regex", "fine"))
            nursery.cancel_scope.cancel()


async def test_what_was_compiled_is_kept_and_the_oldest_forgotten(grammars: Grammars) -> None:
    trial = GrammarTrial(grammars, patience_s=20)
    first = await trial.compile(Grammar("regex", "first"))
    assert await trial.compile(Grammar("regex", "first")) is first
    for index in range(KEPT - 1):
        trial._kept[Grammar("regex", str(index))] = first
    assert await trial.compile(Grammar("regex", "first")) is first
    await trial.compile(Grammar("regex", "second"))
    assert await trial.compile(Grammar("regex", "first")) is first
    assert Grammar("regex", "0") not in trial._kept
    assert len(trial._kept) == KEPT


async def test_a_grammar_under_another_field_is_refused_by_that_field(grammars: Grammars) -> None:
    trial = GrammarTrial(grammars, patience_s=20)
    for param in ("guided_regex", "grammar"):
        assert param in await refused(trial, Grammar("regex", "((", param))


def test_the_child_runs_without_any_package() -> None:
    """So it starts in milliseconds; what it imports is Python's own."""
    text = Path(grammar_child.__file__).read_text(encoding="utf-8")
    assert "import penstock" not in text
    assert "from penstock" not in text
