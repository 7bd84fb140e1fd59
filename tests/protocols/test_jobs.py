"""The job API's events byte by byte, and what it takes for the same body."""

from __future__ import annotations

import json

import pytest

from penstock.errors import CANCELLED, INVALID_JSON, UNAVAILABLE, UNREAD, PenstockError
from penstock.events import Delta, Event, Failed, Figures, Finished, Token, Usage
from penstock.jobs.job import JobState
from penstock.protocols.jobs import JobStreamEncoder, parse_job, render_job, render_submitted

FIGURES = Figures(queue_s=0.5, ttft_s=0.75, tokens=2, tokens_per_s=123.4567891)
NEVER = Figures(None, None, 0, None)
DONE = Finished("length", Usage(4, 2), 2, figures=FIGURES)


def text(piece: str) -> Delta:
    return Delta(piece, (Token(1),), 1)


def test_events_are_numbered_from_one_and_retry_is_inside_the_first() -> None:
    encoder = JobStreamEncoder("job_9c1e", 0)
    assert encoder.encode(text(" two")) == (
        b'event: token\nid: 1\nretry: 1000\ndata: {"job_id":"job_9c1e","index":0,"text":" two"}\n\n'
    )
    assert encoder.heartbeat() == b": keep-alive\n"
    assert encoder.encode(text('"\u2028\U0001f600')) == (
        b"event: token\nid: 2\n"
        b'data: {"job_id":"job_9c1e","index":1,"text":"\\"\\u2028\\ud83d\\ude00"}\n\n'
    )
    assert encoder.encode(DONE) == (
        b'event: job_complete\nid: 3\ndata: {"job_id":"job_9c1e","finish_reason":"length",'
        b'"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6},'
        b'"figures":{"queue_s":0.5,"ttft_s":0.75,"tokens":2,"tokens_per_s":123.456789}}\n\n'
    )


@pytest.mark.parametrize("after", [1, 2, 41])
def test_who_comes_back_gets_the_same_bytes_but_for_retry(after: int) -> None:
    events: list[Event] = [text(f" {number}") for number in range(50)]
    whole, resumed = JobStreamEncoder("job_1", 0), JobStreamEncoder("job_1", after)
    expected = [whole.encode(event) for event in [*events, DONE]][after:]
    got = [resumed.encode(event) for event in [*events, DONE][after:]]
    assert got[0].replace(b"retry: 1000\n", b"") == expected[0]
    assert got[1:] == expected[1:]


@pytest.mark.parametrize(
    ("error", "name", "told"),
    [
        (PenstockError(CANCELLED, "x"), "job_cancelled", '"reason":"client"'),
        (PenstockError(UNREAD, "x"), "job_cancelled", '"reason":"unread"'),
        (
            PenstockError(UNAVAILABLE, "x", retry_after_s=5),
            "job_error",
            '"error":{"message":"x","type":"overloaded_error","param":null,"code":"unavailable",'
            '"retry_after":5}',
        ),
    ],
)
def test_a_job_that_did_not_finish_says_why(error: PenstockError, name: str, told: str) -> None:
    figures = '"figures":{"queue_s":null,"ttft_s":null,"tokens":0,"tokens_per_s":null}'
    assert (
        JobStreamEncoder("job_1", 6).encode(Failed(error, NEVER))
        == (
            f'event: {name}\nid: 7\nretry: 1000\ndata: {{"job_id":"job_1",{told},{figures}}}\n\n'
        ).encode()
    )


def test_a_job_as_json() -> None:
    state = JobState("job_9c1e", 17, 3, None)
    assert render_job(state, " two") == {
        "job_id": "job_9c1e",
        "status": "running",
        "last_event_id": 17,
        "acknowledged": 3,
        "text": " two",
        "finish_reason": None,
        "usage": None,
        "error": None,
        "figures": None,
    }
    assert render_submitted(JobState("job_1", 0, 0, None)) == {
        "job_id": "job_1",
        "stream_url": "/v1/stream?job_id=job_1",
        "status": "queued",
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"prompt":"x","seed":1}', '{ "seed": 1,\n"prompt": "\\u0078" }', True),
        ('{"prompt":"x","a":{"b":1,"c":[1,2]}}', '{"a":{"c":[1,2],"b":1},"prompt":"x"}', True),
        ('{"prompt":"x","a":[1,2]}', '{"prompt":"x","a":[2,1]}', False),
        ('{"prompt":"x"}', '{"prompt":"x","unknown":1}', False),
        ('{"prompt":"x"}', '{"prompt":"X"}', False),
    ],
)
def test_equal_json_has_one_digest(one: str, other: str, same: bool) -> None:
    digests = [parse_job(body.encode()).digest for body in (one, other)]
    assert (digests[0] == digests[1]) is same


def test_the_digest_of_a_body_does_not_change_between_processes() -> None:
    digest = parse_job(json.dumps({"prompt": "x", "max_tokens": 3}).encode()).digest
    assert digest.hex().startswith("63aeef9d18f1")


@pytest.mark.parametrize(
    "body", [b'{"prompt": "x", "\xee\x9c": 1}', b'{"prompt": "x", "y": "\xff"}'], ids=repr
)
def test_bytes_that_no_known_field_holds_are_still_to_be_utf_8(body: bytes) -> None:
    """msgspec skips what it does not know without a look; the digest is made of all."""
    with pytest.raises(PenstockError) as caught:
        parse_job(body)
    assert caught.value.kind is INVALID_JSON
