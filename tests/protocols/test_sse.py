"""Server-sent events come apart at the client exactly as they were put together here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import ServerSentEvent, SSEDecoder

from penstock.events import Delta, Event, Finished, Token, Usage
from penstock.protocols import sse
from penstock.protocols.native import ChatStreamEncoder
from penstock.protocols.openai_answer import Head, StreamEncoder

from .asking import FUZZ

AWKWARD = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\r\nh\ni\x00j\ufeffk\U0001f600l\ufffd"
texts = st.lists(st.text(min_size=1) | st.just(AWKWARD), max_size=5)
cuts = st.lists(st.integers(0, 3000), max_size=12)


def split(body: bytes, positions: Sequence[int]) -> Iterator[bytes]:
    """`body` in the pieces that `positions` make of it."""
    ends = sorted({min(position, len(body)) for position in positions} | {0, len(body)})
    for start, end in pairwise(ends):
        yield body[start:end]


def received(body: bytes, positions: Sequence[int] = ()) -> list[ServerSentEvent]:
    """What openai-python makes of `body`."""
    return list(SSEDecoder().iter_bytes(split(body, positions)))


def events_of(pieces: Sequence[str]) -> list[Event]:
    deltas = [Delta(text, (Token(index),), index + 1) for index, text in enumerate(pieces)]
    return [*deltas, Finished("stop", Usage(1, len(pieces)), len(pieces))]


def test_data_is_one_line_one_space_and_one_blank_line() -> None:
    assert sse.data('{"a":1}') == b'data: {"a":1}\n\n'


def test_done_has_the_space_that_huggingface_hub_compares_with() -> None:
    assert sse.DONE.splitlines()[0].strip() == b"data: [DONE]"
    assert sse.DONE == b"data: [DONE]\n\n"


def test_a_named_event_keeps_its_id_and_retry_in_its_own_block() -> None:
    assert sse.event("token", "{}", event_id="x:1", retry_ms=1000) == (
        b"event: token\nid: x:1\nretry: 1000\ndata: {}\n\n"
    )
    assert sse.event("token", "{}", event_id="x:2") == b"event: token\nid: x:2\ndata: {}\n\n"


def test_headers_forbid_buffering_and_transforming() -> None:
    headers = dict(sse.HEADERS)
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache, no-transform"
    assert headers[b"x-accel-buffering"] == b"no"
    assert not {b"content-length", b"content-encoding"} & set(headers)


def test_json_holds_nothing_that_any_client_takes_for_a_line_end() -> None:
    dumped = sse.dump({"text": AWKWARD})
    assert dumped.isascii()
    assert dumped.splitlines() == [dumped]
    assert r"\u2028b\u2029c\u0085d" in dumped
    assert r"\ud83d\ude00" in dumped
    assert json.loads(dumped) == {"text": AWKWARD}


@pytest.mark.parametrize("keep_alive", [sse.KEEP_ALIVE, sse.KEEP_ALIVE_LINE])
def test_a_keep_alive_is_a_comment_that_nobody_dispatches(keep_alive: bytes) -> None:
    assert keep_alive.startswith(b":")
    body = keep_alive + sse.data("1") + keep_alive + sse.data("2") + keep_alive
    assert [event.data for event in received(body)] == ["1", "2"]


def test_only_the_keep_alive_without_blank_line_is_safe_once_an_id_was_seen() -> None:
    first = sse.event("token", "1", event_id="x:1")
    assert len(received(first + sse.KEEP_ALIVE_LINE + first)) == 2
    assert len(received(first + sse.KEEP_ALIVE + first)) == 3


@FUZZ
@given(pieces=texts, positions=cuts)
def test_an_openai_stream_survives_any_text_and_any_split(
    pieces: list[str], positions: list[int]
) -> None:
    encoder = StreamEncoder(Head("chat", "1", "default", 0), include_usage=True)
    body = b"".join(
        part for event in events_of(pieces) for part in (encoder.heartbeat(), encoder.encode(event))
    )
    *chunks, usage, done = received(body, positions)
    assert done.data == "[DONE]"
    assert usage.json()["choices"] == []
    deltas = [chunk.json()["choices"][0]["delta"] for chunk in chunks]
    assert [delta["content"] for delta in deltas[1:-1]] == pieces
    assert all(event.id is None and event.event is None for event in (*chunks, usage, done))


@FUZZ
@given(pieces=texts, positions=cuts)
def test_a_chat_stream_survives_any_text_and_any_split(
    pieces: list[str], positions: list[int]
) -> None:
    encoder = ChatStreamEncoder("job_7")
    body = b"".join(
        part for event in events_of(pieces) for part in (encoder.heartbeat(), encoder.encode(event))
    )
    *tokens, done = received(body, positions)
    assert [token.json() for token in tokens] == [{"text": piece} for piece in pieces]
    numbers = [event.id for event in (*tokens, done)]
    assert numbers == [f"job_7:{number}" for number in range(1, len(pieces) + 2)]
    assert {token.event for token in tokens} <= {"token"}
    assert done.event == "done"
