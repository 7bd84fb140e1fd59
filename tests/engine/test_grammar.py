"""Grammars in the engine: each sequence follows its own, and one that fails ends alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer as Vocabulary
from tokenizers import models

from penstock.engine import grammar
from penstock.engine.engine import Engine
from penstock.engine.grammar import GrammarError, Grammars, Matcher
from penstock.engine.model import Model
from penstock.engine.sampling import Draw, sample
from penstock.engine.sequence import Sampled
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import UNSUPPORTED, PenstockError
from penstock.requests import Grammar, Prompt, Sampling
from tests.peers import CHUNK, alone, make_engine, make_prompt, sampled, start

WORDS = Grammar("regex", "[a-z]{2,9}( [a-z]{2,9}){8}", "guided_regex")
PLENTY = 1 << 30


@pytest.fixture(scope="module")
def grammars(model: Model, tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer.vocabulary, model.spec.vocab_size, model.spec.eos_ids)


@pytest.fixture(scope="module")
def bound(grammars: Grammars) -> Callable[..., Prompt]:
    def make(what: Grammar = WORDS, length: int = 5, **fields: object) -> Prompt:
        fields = {"max_tokens": 80, "temperature": 1.0, "ignore_eos": False} | fields
        return replace(
            make_prompt(length, **fields),  # type: ignore[arg-type]
            constraint=grammars.compile(what),
        )

    return make


Bound = Callable[..., Prompt]


def text_of(tokenizer: Tokenizer, made: list[Sampled]) -> str:
    text: str = tokenizer.vocabulary.decode([token.token_id for token in made])
    return text


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 2.0, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.5},
        {"temperature": 1.0, "min_p": 0.2},
        {"temperature": 1.0, "repetition_penalty": 1.5, "logit_bias": ((300, 100.0),)},
    ],
)
def test_every_way_to_draw_keeps_to_the_grammar(
    model: Model, tokenizer: Tokenizer, bound: Bound, sampling: dict[str, float]
) -> None:
    prompt = replace(bound(), sampling=Sampling(**sampling))  # type: ignore[arg-type]
    made = alone(make_engine(model), prompt)
    assert made[-1].end == "stop"
    words = text_of(tokenizer, made).split(" ")
    assert len(words) == 9
    assert all(2 <= len(word) <= 9 and word.islower() for word in words)


def test_the_end_may_come_exactly_where_the_grammar_allows_it(
    model: Model, tokenizer: Tokenizer, bound: Bound
) -> None:
    """EOS is drawn wherever it can be: a bias of 100 leaves nothing else."""
    likely = Sampling(logit_bias=tuple((id_, 100.0) for id_ in model.spec.eos_ids))
    prompt = replace(bound(Grammar("regex", "(ab){3,}")), sampling=likely)
    made = alone(make_engine(model), prompt)
    assert made[-1].token_id in model.spec.eos_ids
    assert text_of(tokenizer, made) == "ababab"


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_a_grammar_that_is_at_its_end_ends_the_answer(
    model: Model, tokenizer: Tokenizer, bound: Bound, *, ignore_eos: bool
) -> None:
    made = alone(make_engine(model), bound(Grammar("regex", "yes|no"), ignore_eos=ignore_eos))
    assert made[-1].end == "stop"
    assert text_of(tokenizer, made) in ("yes", "no")


def test_a_limit_of_tokens_comes_before_the_end_of_the_grammar(model: Model, bound: Bound) -> None:
    assert [token.end for token in alone(make_engine(model), bound(max_tokens=3))][-1] == "length"


def test_a_sequence_gives_the_same_alone_and_among_others(model: Model, bound: Bound) -> None:
    others = [make_prompt(4 + i, seed=i, temperature=1.0, max_tokens=30) for i in range(3)]
    constrained = [bound(seed=i, length=5 + i) for i in range(3)]
    prompts = [prompt for pair in zip(others, constrained, strict=True) for prompt in pair]
    expected = [alone(make_engine(model), prompt) for prompt in prompts]
    engine = make_engine(model)
    started = [start(engine, prompt) for prompt in prompts]
    made = [[first] for _, first in started]
    while live := [i for i, tokens in enumerate(made) if tokens[-1].end is None]:
        results = engine.step([started[i][0] for i in live])
        for i, result in zip(live, results, strict=True):
            made[i].append(sampled(result))
    assert made == expected


@pytest.mark.parametrize("parked_kv_bytes", [PLENTY, 0])
@pytest.mark.parametrize("at", [1, 4, 9])
def test_being_evicted_moves_no_grammar(
    model: Model, bound: Bound, parked_kv_bytes: int, at: int
) -> None:
    """Rebuilt from nothing, the tokens are computed again, and none is followed twice."""
    prompt = bound(length=CHUNK + 3)
    expected = alone(make_engine(model), prompt)
    engine = make_engine(model, parked_kv_bytes=parked_kv_bytes)
    sequence, first = start(engine, prompt)
    made = [first]
    while len(made) < at:
        made += map(sampled, engine.step([sequence]))
    engine.evict(sequence)
    engine.admit(sequence)
    while not sequence.prefilled:
        assert engine.prefill(sequence) is None
    while made[-1].end is None:
        made += [sampled(result) for result in engine.step([sequence]) if result is not None]
    assert made == expected


@pytest.mark.parametrize("parked_kv_bytes", [PLENTY, 0])
def test_each_choice_follows_the_grammar_for_itself(
    model: Model, bound: Bound, parked_kv_bytes: int
) -> None:
    prompt = replace(bound(), n=3)
    expected = [alone(make_engine(model), prompt, choice) for choice in range(3)]
    assert all(one != other for one, other in pairwise(expected))
    engine = make_engine(model, parked_kv_bytes=parked_kv_bytes)
    for choice, sequence in enumerate(engine.open_choices(prompt)):
        result = engine.admit(sequence)
        while result is None:
            result = engine.prefill(sequence)
        made = [sampled(result)]
        while made[-1].end is None:
            made += map(sampled, engine.step([sequence]))
        assert made == expected[choice]


def test_a_grammar_that_becomes_too_much_ends_its_own_sequence_only(
    model: Model, bound: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(grammar.LIMITS, "max_lexer_states", 1000)
    neighbour = make_prompt(6, seed=9, max_tokens=60)
    expected = alone(make_engine(model), neighbour)
    engine = make_engine(model)
    other, first = start(engine, neighbour)
    victim, _ = start(engine, bound(Grammar("regex", "(.|\n)*a(.|\n){300}x", "guided_regex")))
    made, failure = [first], None
    while failure is None:
        result, beside = engine.step([victim, other])
        made.append(sampled(beside))
        failure = result if isinstance(result, Exception) else None
    assert isinstance(failure, PenstockError)
    assert failure.param == "guided_regex"
    engine.close(victim)
    while made[-1].end is None:
        made += map(sampled, engine.step([other]))
    assert made == expected


def test_a_mask_that_fails_ends_its_own_sequence_only(model: Model, bound: Bound) -> None:
    """llguidance is made to fail by a state that is none, as by a panic of its own."""
    expected = alone(make_engine(model), bound(length=7, seed=4))
    engine = make_engine(model)
    victim, _ = start(engine, bound())
    other, first = start(engine, bound(length=7, seed=4))
    assert victim.matcher is not None
    victim.matcher.state = object()  # type: ignore[assignment]
    failure, beside = engine.step([victim, other])
    assert isinstance(failure, PenstockError)
    assert failure.param == "guided_regex"
    engine.close(victim)
    made = [first, sampled(beside)]
    while made[-1].end is None:
        made += map(sampled, engine.step([other]))
    assert made == expected


def test_a_token_that_llguidance_fails_on_is_an_error_of_its_matcher() -> None:
    matcher = Matcher(object(), "guided_regex", 8)  # type: ignore[arg-type]
    matcher.accept(1)
    assert matcher.error is not None
    assert matcher.error.param == "guided_regex"


def test_logits_that_leave_nothing_end_their_own_row_only() -> None:
    logits = np.zeros((3, 8), np.float32)
    logits[1, 4:] = -np.inf
    late = np.arange(8) >= 4
    draws = [
        Draw(Sampling(temperature=temperature), 0, 0, allowed=mask)
        for temperature, mask in ((0.0, late), (1.0, late), (1.0, np.zeros(8, bool)))
    ]
    assert sample(logits, draws) == [4, -1, -1]


def test_log_probabilities_are_the_models_own(model: Model, bound: Bound) -> None:
    """A grammar says nothing about how sure the model was."""
    prompt = replace(bound(), logprobs=1)
    made = alone(make_engine(model), prompt)
    free = alone(make_engine(model), replace(prompt, constraint=None))
    assert made[0].top == free[0].top
    assert all(token.logprob is not None and token.logprob < 0 for token in made)


@pytest.mark.parametrize("size", [320, 4096, 4128])
def test_models_with_fewer_or_more_words_than_their_tokenizer(
    model: Model, tokenizer: Tokenizer, size: int
) -> None:
    grammars = Grammars(tokenizer.vocabulary, size, model.spec.eos_ids)
    matcher = grammars.compile(Grammar("regex", "a")).start()
    engine = Engine(model, slots=1, max_len=32, prefill_chunk=16)
    (mask,) = engine._masks._compute([matcher])
    assert mask.shape == (4096,)
    assert mask.tolist().index(True) == tokenizer.vocabulary.token_to_id("a")


def test_a_tokenizer_of_another_kind_serves_without_grammars() -> None:
    vocabulary = Vocabulary(models.WordLevel({"a": 0, "b": 1}, "a"))
    grammars = Grammars(vocabulary, 2, [1])
    assert grammars.special("a") is None
    with pytest.raises(PenstockError) as caught:
        grammars.compile(Grammar("regex", "a"))
    assert caught.value.kind is UNSUPPORTED


@pytest.mark.parametrize(
    "wrong",
    [
        Grammar("regex", "(("),
        Grammar("json", "[]"),
        Grammar("json", json.dumps({"type": "foo"})),
        Grammar("lark", "start: nothing"),
    ],
)
def test_what_is_no_grammar_is_refused(grammars: Grammars, wrong: Grammar) -> None:
    with pytest.raises(GrammarError):
        grammars.compile(wrong)
