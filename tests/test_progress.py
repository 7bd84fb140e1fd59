"""A generation that another process had begun: whatever it had told, the rest is the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import trio

from penstock.decoder import Decoder
from penstock.engine.grammar import Grammars
from penstock.engine.model import Model
from penstock.engine.text import TextStream
from penstock.engine.tokenizer import Tokenizer
from penstock.events import Delta, Ended, Event, Finished
from penstock.generation import Generation
from penstock.progress import read_progress
from penstock.requests import Grammar, Prompt
from tests.peers import make_decoder, make_engine, make_prompt

EMOJI = tuple((token_id, 60.0) for token_id in (0xF0 + 3, 0x9F + 3, 0x99 + 3))


async def run(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: Prompt,
    told: Sequence[Event] = (),
    stops: tuple[str, ...] = (),
) -> list[Event]:
    """What is emitted behind what was `told`, and the end."""
    before = read_progress(told, prompt.n)
    given = replace(prompt, given=tuple(each.tokens for each in before))
    events: list[Event] = []

    async def emit(event: Event) -> None:
        events.append(event)

    new_text = partial(TextStream, tokenizer.vocabulary, stops)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(decoder.run)
            source = Generation(decoder, given, new_text, before=before)
            # Its figures are times, which differ.
            events.append(replace(await source(emit), figures=None))
            nursery.cancel_scope.cancel()
    assert not decoder.schedule.active
    return events


@pytest.fixture
def decoder(model: Model) -> Decoder:
    return make_decoder(make_engine(model))


@pytest.mark.parametrize("stop", ["", " the", " a"])
async def test_the_rest_is_the_same_behind_any_event(
    decoder: Decoder, tokenizer: Tokenizer, stop: str
) -> None:
    prompt = make_prompt(seed=3, max_tokens=24, temperature=1.0)
    stops = (stop,) if stop else ()
    whole = await run(decoder, tokenizer, prompt, stops=stops)
    assert len(whole) > 1
    for told in range(len(whole)):
        rest = await run(decoder, tokenizer, prompt, whole[:told], stops)
        assert rest == whole[told:]


async def test_tokens_without_text_are_taken_along(decoder: Decoder, tokenizer: Tokenizer) -> None:
    """Several tokens make one character, and the last ones none."""
    prompt = make_prompt(seed=1, max_tokens=14, temperature=2.0)
    prompt = replace(prompt, sampling=replace(prompt.sampling, logit_bias=EMOJI))
    whole = await run(decoder, tokenizer, prompt)
    assert any(len(event.tokens) > 1 for event in whole if isinstance(event, Delta | Finished))
    for told in range(len(whole)):
        assert await run(decoder, tokenizer, prompt, whole[:told]) == whole[told:]


async def test_an_answer_that_had_come_to_its_end_ends_again(
    model: Model, decoder: Decoder, tokenizer: Tokenizer
) -> None:
    """Its last text and its EOS were told, that it had ended was not."""
    eos = min(model.spec.eos_ids)
    prompt = make_prompt(seed=5, max_tokens=30, ignore_eos=False)
    prompt = replace(prompt, sampling=replace(prompt.sampling, logit_bias=((eos, 12.0),)))
    whole = await run(decoder, tokenizer, prompt)
    for told in range(len(whole)):
        assert await run(decoder, tokenizer, prompt, whole[:told]) == whole[told:]


@pytest.mark.parametrize("pattern", ["(ab|cd| ){3,9}!", "[a-z ]{200,}"])
async def test_a_grammar_goes_on_where_it_was(
    model: Model, decoder: Decoder, tokenizer: Tokenizer, pattern: str
) -> None:
    """Its end too, where all but that was told."""
    spec = model.spec
    grammars = Grammars(tokenizer.vocabulary, spec.vocab_size, spec.eos_ids)
    bound = grammars.compile(Grammar("regex", pattern))
    prompt = replace(make_prompt(seed=4, max_tokens=20, temperature=1.5), constraint=bound)
    whole = await run(decoder, tokenizer, prompt)
    text = "".join(event.text for event in whole if isinstance(event, Delta))
    assert bool(re.fullmatch(pattern, text)) == (whole[-1].finish_reason == "stop")  # type: ignore[union-attr]
    for told in range(len(whole)):
        assert await run(decoder, tokenizer, prompt, whole[:told]) == whole[told:]


async def test_each_of_several_answers_goes_on(decoder: Decoder, tokenizer: Tokenizer) -> None:
    prompt = replace(make_prompt(seed=9, max_tokens=8, temperature=1.0), n=3)
    whole = await run(decoder, tokenizer, prompt)
    for told in range(len(whole)):
        again = [*whole[:told], *await run(decoder, tokenizer, prompt, whole[:told])]
        assert sorted(map(_of_choice, again)) == sorted(map(_of_choice, whole))
        assert isinstance(again[-1], Finished)
        assert sum(isinstance(event, Ended) for event in again) == 2
        assert again[-1].usage == whole[-1].usage  # type: ignore[union-attr]


def _of_choice(event: Event) -> tuple[int, int, str]:
    """Which of several ends is the last one is nobody's promise."""
    assert isinstance(event, Delta | Ended | Finished)
    return event.choice, event.through, getattr(event, "text", "")
