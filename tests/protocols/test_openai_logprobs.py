"""Log probabilities on the wire: each token's entry once, in both shapes, streamed and whole."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from penstock.engine.text import TextStream
from penstock.engine.tokenizer import Tokenizer
from penstock.engine.vocabulary import Spelling
from penstock.events import Delta, Event, Finished, Token, Usage
from penstock.protocols.openai_answer import Head, StreamEncoder, WholeEncoder
from penstock.protocols.openai_logprobs import Logprobs, Spell, chat_logprobs, text_logprobs

CHAT = Head("chat", "1", "m", 0)
TEXT = Head("text", "1", "m", 0)
WORDS = {
    0: ("<|end|>", b""),
    5: ("Two", b"Two"),
    6: (" \u00e9", b" \xc3\xa9"),
    7: ("bytes:\\xe2\\x82", b"\xe2\x82"),
    8: ("bytes:\\xac", b"\xac"),
    9: ("!\n", b"!\n"),
}
NOTHING: dict[str, Any] = {"tokens": [], "text_offset": []}
NAMES: Spell = WORDS.__getitem__
TWO = Token(5, -0.5, ((5, -0.5), (9, -1.25)))
SPACE_E = Token(6, -0.25, ((6, -0.25), (0, -math.inf)))
EURO = (Token(7, -1.0, ((7, -1.0),)), Token(8, 0.0, ((8, 0.0),)))
BANG = Token(9, -2.0, ((5, -0.125),))
EOS = Token(0, -0.75, ((0, -0.75),))
GOOD: list[Event] = [
    Delta("Two", (TWO,), 1),
    Delta(" \u00e9", (SPACE_E,), 2),
    Delta("\u20ac", EURO, 4),
    Finished("stop", Usage(3, 5), 5, (EOS,)),
]


def logprobs(head: Head, spell: Spell = NAMES) -> Logprobs:
    return Logprobs(chat_logprobs if head.shape == "chat" else text_logprobs, spell)


def streamed(head: Head, events: list[Event], spell: Spell = NAMES) -> list[dict[str, Any]]:
    encoder = StreamEncoder(head, logprobs=[logprobs(head, spell)])
    text = b"".join(map(encoder.encode, events)).decode("ascii")
    blocks = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    return [json.loads(block) for block in blocks if block != "[DONE]"]


def whole(head: Head, events: list[Event], spell: Spell = NAMES) -> dict[str, Any]:
    encoder = WholeEncoder(head, logprobs=[logprobs(head, spell)])
    answer: dict[str, Any] = json.loads(b"".join(map(encoder.encode, events)))
    return answer


def told(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["choices"][0]["logprobs"] or {}
    return found


def entries(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for chunk in chunks for entry in told(chunk).get("content", ())]


def test_the_bytes_of_a_chat_chunk() -> None:
    encoder = StreamEncoder(CHAT, logprobs=[logprobs(CHAT)])
    assert encoder.encode(GOOD[0]).decode().split("\n\n")[1] == (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":0,"model":"m",'
        '"system_fingerprint":"penstock-1","choices":[{"index":0,"delta":{"content":"Two"},'
        '"logprobs":{"content":[{"token":"Two","logprob":-0.5,"bytes":[84,119,111],'
        '"top_logprobs":[{"token":"Two","logprob":-0.5,"bytes":[84,119,111]},'
        '{"token":"!\\n","logprob":-1.25,"bytes":[33,10]}]}],"refusal":null},'
        '"finish_reason":null}]}'
    )


def test_the_bytes_of_a_text_chunk() -> None:
    encoder = StreamEncoder(TEXT, logprobs=[logprobs(TEXT)])
    assert encoder.encode(GOOD[0]).decode() == (
        'data: {"id":"cmpl-1","object":"text_completion","created":0,"model":"m",'
        '"system_fingerprint":"penstock-1","choices":[{"index":0,"text":"Two",'
        '"logprobs":{"tokens":["Two"],"token_logprobs":[-0.5],'
        '"top_logprobs":[{"Two":-0.5,"!\\n":-1.25}],"text_offset":[0]},'
        '"finish_reason":null}]}\n\n'
    )


def test_the_end_tells_of_the_tokens_that_have_no_text() -> None:
    last = streamed(CHAT, GOOD)[-1]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")
    [entry] = last["logprobs"]["content"]
    assert (entry["token"], entry["bytes"], entry["logprob"]) == ("<|end|>", [], -0.75)


def test_a_whole_answer_has_the_entries_of_its_stream() -> None:
    content = told(whole(CHAT, GOOD))["content"]
    assert content == entries(streamed(CHAT, GOOD))
    assert [entry["token"] for entry in content] == [
        "Two",
        " \u00e9",
        "bytes:\\xe2\\x82",
        "bytes:\\xac",
        "<|end|>",
    ]
    raw = bytes(byte for entry in content for byte in entry["bytes"])
    assert raw.decode() == "Two \u00e9\u20ac"
    assert told(whole(TEXT, GOOD)) == {
        "tokens": [entry["token"] for entry in content],
        "token_logprobs": [-0.5, -0.25, -1.0, 0.0, -0.75],
        "top_logprobs": [
            {"Two": -0.5, "!\n": -1.25},
            {" \u00e9": -0.25, "<|end|>": -9999.0},
            {"bytes:\\xe2\\x82": -1.0},
            {"bytes:\\xac": 0.0},
            {"<|end|>": -0.75},
        ],
        "text_offset": [0, 3, 5, 5, 6],
    }


def test_an_entry_waits_for_the_last_of_its_text() -> None:
    """`!` is out and its line end held, as the beginning of a stop string may be."""
    events: list[Event] = [
        Delta("Two!", (TWO, BANG), 2),
        Delta("\nTwo", (TWO,), 3),
        Finished("length", Usage(1, 3), 3),
    ]
    chunks = streamed(TEXT, events)
    assert [told(chunk).get("text_offset") for chunk in chunks] == [[0], [3, 5], None]


@pytest.mark.parametrize("head", [CHAT, TEXT])
def test_tokens_beyond_a_stop_strings_cut_are_not_told(head: Head) -> None:
    cut = Finished("stop", Usage(1, 4), 4, (TWO, SPACE_E), cut="!")
    events: list[Event] = [Delta("Two!", (TWO, BANG), 2), cut]
    answer = told(whole(head, events))
    names = answer.get("tokens") or [entry["token"] for entry in answer["content"]]
    assert names == ["Two", "!\n"]


def test_no_text_and_a_cut_is_no_entry() -> None:
    cut = Finished("stop", Usage(1, 1), 1, (TWO,), cut="!")
    for answer in [whole(CHAT, [cut]), *streamed(CHAT, [cut])]:
        assert answer["choices"][0]["logprobs"] is None


def test_openai_python_takes_them_as_its_own_types() -> None:
    for chunk in streamed(CHAT, GOOD):
        ChatCompletionChunk.model_validate(chunk, strict=True)
    ChatCompletion.model_validate(whole(CHAT, GOOD), strict=True)
    for chunk in [*streamed(TEXT, GOOD)[:-1], whole(TEXT, GOOD)]:
        for choice in chunk["choices"]:
            choice["finish_reason"] = "stop"  # the type has no null, though the API sends it
        Completion.model_validate(chunk, strict=True)


def events_of(tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...]) -> list[Event]:
    """What a generation would emit for these tokens."""
    stream = TextStream(tokenizer.vocabulary, stops)
    events: list[Event] = []
    unsent: list[Token] = []
    made = 0
    for made, token_id in enumerate(ids, 1):
        unsent.append(Token(token_id, -1.0))
        if piece := stream.push(token_id):
            events.append(Delta(piece, tuple(unsent), made))
            unsent = []
        if stream.stop:
            break
    if rest := stream.flush():
        events.append(Delta(rest, tuple(unsent), made))
        unsent = []
    return [
        *events,
        Finished("stop", Usage(1, made), made, tuple(unsent), cut=stream.stop),
    ]


@settings(max_examples=300)
@example(ids=[102, 0, 473], stops=["e"])  # a token without text just before the cut
@given(
    ids=st.lists(st.integers(0, 4095), min_size=1, max_size=30),
    stops=st.lists(st.sampled_from(["e", " t", "\n", "the", "an", "."]), max_size=3),
)
def test_any_tokens_in_stream_and_whole(
    tokenizer: Tokenizer, ids: list[int], stops: list[str]
) -> None:
    """Equal entries; offsets are where the text is; nothing wholly beyond the cut."""
    spell = Spelling(tokenizer.vocabulary)
    events = events_of(tokenizer, ids, tuple(stops))
    assert entries(streamed(CHAT, events, spell)) == entries([whole(CHAT, events, spell)])
    answer = whole(TEXT, events, spell)
    text, found = answer["choices"][0]["text"], told(answer) or NOTHING
    finished = events[-1]
    assert isinstance(finished, Finished)
    if not finished.cut:
        assert len(found["tokens"]) == len(ids)
    assert found["text_offset"] == sorted(found["text_offset"])
    for token, offset in zip(found["tokens"], found["text_offset"], strict=True):
        if not token.startswith("bytes:") and spell(0)[0] != token and "<|" not in token:
            assert text[offset:].startswith(token) or token.startswith(text[offset:])
        if finished.cut:
            assert offset < len(text)
