"""What servers say, however their bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.loadgen.answer import Answer
from penstock.loadgen.dialect import Dialect, hear
from penstock.loadgen.events import EventParser

from .servers import DONE, HEAD, LAST, answer, chunked, event, finish, make_ask

CUTS = st.lists(st.integers(0, 5000), max_size=30)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def fed(*pieces: bytes) -> Answer:
    """An answer that took one piece each second."""
    made = Answer()
    made.ask("/v1/completions", [("host", "test")], b"{}")
    for second, piece in enumerate(pieces):
        made.feed(piece, float(second))
    return made


@given(st.lists(st.sampled_from([b"data: a", b"data:b", b"data", b": c", b"id: 1", b""])), CUTS,
       st.sampled_from([b"\n", b"\r\n", b"\r"]))  # fmt: skip
def test_events_do_not_depend_on_cuts_or_line_ends(
    lines: list[bytes], places: list[int], end: bytes
) -> None:
    whole = list(EventParser().feed(b"".join(line + b"\n" for line in lines)))
    parser, found = EventParser(), list[bytes]()
    for piece in cut(b"".join(line + end for line in lines), places):
        found += parser.feed(piece)
    assert found == whole


def test_events_are_data_and_nothing_else() -> None:
    text = b"\xef\xbb\xbfdata: a\ndata:b\nevent: x\n: no\n\n\ndata:  c\n\ndata: half"
    assert list(EventParser().feed(text)) == [b"a\nb", b" c"]


def test_an_event_ends_at_its_carriage_return() -> None:
    parser = EventParser()
    assert list(parser.feed(b"data: a\r\r")) == [b"a"]
    assert list(parser.feed(b"\ndata: b\r\n\r\n")) == [b"b"]


@given(CUTS)
def test_an_answer_does_not_depend_on_cuts(places: list[int]) -> None:
    made = fed(*cut(answer(3, tokens=4), places))
    assert (made.ending, len(made.times)) == ("done", 3)
    assert made.usage
    assert made.usage.completion_tokens == 4


def test_pieces_have_the_time_at_which_they_were_read() -> None:
    two = chunked(event("a")) + chunked(event("b"))
    assert list(fed(HEAD, two, chunked(event("c"))).times) == [1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("pieces", "ending", "detail"),
    [
        ([answer(2)], "done", ""),
        ([HEAD, chunked(finish().removesuffix(DONE)), LAST], "done", ""),
        ([HEAD, chunked(event("a")), LAST], "cut", "without a finish_reason"),
        ([HEAD, chunked(event("a") + DONE), LAST], "cut", "without a finish_reason"),
        ([HEAD, chunked(event("a")), b""], "cut", ""),
        ([b""], "cut", ""),
        ([HEAD, b"zz\r\n"], "protocol", "illegal chunk header"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "protocol", "illegal status line"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"], "protocol", "no event stream"),
        ([b"HTTP/1.1 429 No\r\ncontent-length: 4\r\n\r\nfull"], "refused", "429 full"),
        ([b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"], "refused", "503"),
        ([b"HTTP/1.1 404 No\r\ncontent-length: 4\r\n\r\nlost"], "http", "404 lost"),
        ([HEAD, chunked(b"data: {\n\n")], "protocol", "not a chunk of a completion"),
        ([HEAD, chunked(event("a") + event(error={"message": "no\nmore"}))], "error", "no"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + answer(1)], "done", ""),
    ],
)
def test_every_ending_has_its_name(pieces: list[bytes], ending: str, detail: str) -> None:
    made = fed(*pieces)
    assert made.ending == ending
    assert detail in made.detail


def test_an_error_of_any_length_is_told_in_short() -> None:
    body = b"x" * 5000
    made = fed(b"HTTP/1.1 500 No\r\ncontent-length: 5000\r\n\r\n" + body)
    assert made.detail == f"500 {'x' * 196}"


def test_only_text_makes_a_piece() -> None:
    assert hear(b'{"choices":[{"delta":{"content":"a"}}]}').text
    assert hear(b'{"choices":[{"delta":{"reasoning_content":"a"}}]}').text
    assert not hear(b'{"choices":[{"delta":{"role":"assistant","content":""}}]}').text
    assert not hear(b'{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}').text
    assert not hear(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}').text


@pytest.mark.parametrize(("shape", "field"), [("chat", b'"messages":[{"role":"user"'),
                                              ("text", b'"prompt":"a b c"')])  # fmt: skip
def test_extra_fields_go_over_all_others(shape: str, field: bytes) -> None:
    body = Dialect(shape, "m", {"max_tokens": 3, "ignore_eos": True}).body(make_ask())  # type: ignore[arg-type]
    assert field in body
    assert b'"max_tokens":3' in body
    assert b'"ignore_eos":true' in body
