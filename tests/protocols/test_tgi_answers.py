"""The bytes of TGI's answers, and that each token is told once with the text it completes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PenstockError, internal
from penstock.events import Delta, Event, Failed, Finished, Token, Usage
from penstock.protocols.tgi import Asked
from penstock.protocols.tgi_answer import StreamEncoder, WholeEncoder
from penstock.requests import GenerateRequest, Sampling

from .asking import FUZZ

EOS = 0
ASKED = Asked(GenerateRequest(prompt="One", sampling=Sampling(temperature=0)), True, False)
DETAILED = Asked(
    GenerateRequest(prompt="One", sampling=Sampling(temperature=1.0, seed=9)), True, True, "One"
)
TWO = Delta(" two", (Token(812, -0.31),), 1)
THREE = Delta(" three", (Token(990, -0.12),), 2, settled=False)
LENGTH = Finished("length", Usage(4, 2), 2)


def is_special(token_id: int) -> bool:
    return token_id == EOS


def streamed(asked: Asked, *events: Event) -> str:
    encoder = StreamEncoder(asked, is_special)
    return b"".join(map(encoder.encode, events)).decode("ascii")


def whole(asked: Asked, *events: Event, listed: bool = False) -> Any:  # noqa: ANN401
    encoder = WholeEncoder(asked, is_special, listed=listed)
    *nothing, last = map(encoder.encode, events)
    assert not any(nothing)
    return json.loads(last)


def test_a_stream_is_an_event_for_each_token_and_the_last_carries_the_end() -> None:
    assert streamed(ASKED, TWO, THREE, LENGTH) == (
        'data: {"index":1,"token":{"id":812,"text":" two","logprob":-0.31,"special":false},'
        '"generated_text":null,"details":null}\n\n'
        'data: {"index":2,"token":{"id":990,"text":" three","logprob":-0.12,"special":false},'
        '"generated_text":" two three","details":null}\n\n'
    )


def test_details_and_the_full_text_are_told_where_they_were_asked_for() -> None:
    last = streamed(DETAILED, TWO, THREE, LENGTH).split("\n\n")[1]
    assert last.endswith(
        '"generated_text":"One two three","details":{"finish_reason":"length",'
        '"generated_tokens":2,"seed":9,"input_length":4}}'
    )


def test_eos_is_a_special_token_without_text() -> None:
    end = Finished("stop", Usage(4, 2), 2, (Token(EOS, -1.5),))
    assert streamed(ASKED, TWO, end).split("\n\n")[1] == (
        'data: {"index":2,"token":{"id":0,"text":"","logprob":-1.5,"special":true},'
        '"generated_text":" two","details":null}'
    )


def test_a_token_waits_only_while_more_of_its_text_is_held_back() -> None:
    encoder = StreamEncoder(ASKED, is_special)
    assert encoder.encode(Delta(" a", (Token(5, -1),), 1)).count(b"index") == 1
    assert encoder.encode(Delta(" bc", (Token(6, -1),), 2, settled=False)) == b""
    assert encoder.encode(Delta("d e", (Token(7, -1),), 3)).count(b"index") == 2


def test_text_released_by_eos_goes_to_the_token_that_made_it() -> None:
    held = Delta("ab", (Token(5, -1),), 1, settled=False)
    rest = Delta("c", (Token(EOS, -1),), 2, settled=False)
    told = streamed(ASKED, held, rest, Finished("stop", Usage(1, 2), 2)).split("\n\n")
    tokens = [json.loads(event[6:])["token"] for event in told[:-1]]
    assert [(token["id"], token["text"]) for token in tokens] == [(5, "abc"), (0, "")]


def test_half_characters_have_no_text_and_what_was_cut_neither() -> None:
    delta = Delta("é", (Token(5, -1), Token(6, -1)), 2)
    end = Finished("stop", Usage(1, 4), 4, (Token(7, -1), Token(8, None)), cut="END")
    told = whole(DETAILED, delta, end)["details"]
    assert [token["text"] for token in told["tokens"]] == ["", "é", "", ""]
    assert (told["finish_reason"], told["generated_tokens"]) == ("stop_sequence", 4)
    assert told["tokens"][3]["logprob"] == -9999.0
    assert told["prefill"] == []


def test_a_whole_answer_is_an_object_or_a_list_of_one() -> None:
    assert whole(ASKED, TWO, THREE, LENGTH) == {"generated_text": " two three"}
    assert whole(ASKED, TWO, THREE, LENGTH, listed=True) == [{"generated_text": " two three"}]
    details = whole(DETAILED, TWO, THREE, LENGTH)
    assert details == {
        "generated_text": "One two three",
        "details": {
            "finish_reason": "length",
            "generated_tokens": 2,
            "seed": 9,
            "prefill": [],
            "tokens": [
                {"id": 812, "text": " two", "logprob": -0.31, "special": False},
                {"id": 990, "text": " three", "logprob": -0.12, "special": False},
            ],
        },
    }


def test_a_failure_in_a_stream_is_an_event_with_its_type() -> None:
    assert streamed(ASKED, TWO, Failed(internal())).split("\n\n")[1] == (
        'data: {"error":"the server failed on this request; its log says why",'
        '"error_type":"generation"}'
    )
    assert "model_kwargs" not in streamed(ASKED, Failed(PenstockError(internal().kind, "x")))


@FUZZ
@given(
    steps=st.lists(
        st.tuples(st.text(min_size=1, max_size=3), st.integers(1, 3), st.booleans()), min_size=1
    ),
    rest=st.integers(0, 2),
)
def test_any_deltas_give_each_token_once_and_all_of_the_text(
    steps: list[tuple[str, int, bool]], rest: int
) -> None:
    events: list[Event] = []
    made = 0
    for text, count, settled in steps:
        events.append(Delta(text, (Token(5, -1),) * count, made := made + count, settled=settled))
    made += rest + 1
    tail = (Token(5, -1),) * rest + (Token(EOS, -1),)
    events.append(Finished("stop", Usage(1, made), made, tail))
    told = [json.loads(e[6:]) for e in streamed(ASKED, *events).split("\n\n")[:-1]]
    assert [event["index"] for event in told] == list(range(1, made + 1))
    text = "".join(text for text, _, _ in steps)
    assert "".join(event["token"]["text"] for event in told) == text
    assert [event["generated_text"] for event in told] == [None] * (made - 1) + [text]
