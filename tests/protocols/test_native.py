"""GET /chat/stream: what its query may say, and the events that EventSource gets."""

from __future__ import annotations

import pytest

from penstock.errors import CANCELLED, PenstockError
from penstock.events import Delta, Failed, Finished, Token, Usage
from penstock.protocols.native import MAX_FIELDS, ChatStreamEncoder, parse_query
from penstock.requests import GenerateRequest, Message, Sampling

from .asking import MARKER, refusal


def ask(content: str, *, max_tokens: int | None = None, **sampling: float) -> GenerateRequest:
    return GenerateRequest(
        messages=(Message("user", content),),
        max_tokens=max_tokens,
        sampling=Sampling(**sampling),  # type: ignore[arg-type]  # seed is a whole number
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"prompt=Hi", ask("Hi")),
        (b"prompt=a+b%20c", ask("a b c")),
        (b"prompt=1%2B1", ask("1+1")),
        (b"prompt=%F0%9F%98%80", ask("\U0001f600")),
        ("prompt=caf\u00e9".encode(), ask("caf\u00e9")),
        (b"prompt=%zz%", ask("%zz%")),
        (b"prompt=a;b=c", ask("a;b=c")),
        (b"prompt=a=b", ask("a=b")),
        (b"prompt=%00", ask("\x00")),
        (b"prompt=null", ask("null")),
        (b"prompt=12", ask("12")),
        (b"prompt=+", ask(" ")),
        (b"&&prompt=Hi&", ask("Hi")),
        (b"max_tokens=5&prompt=Hi", ask("Hi", max_tokens=5)),
        (b"prompt=Hi&temperature=0", ask("Hi", temperature=0.0)),
        (b"prompt=Hi&temperature=0.5&seed=7", ask("Hi", temperature=0.5, seed=7)),
        (b"prompt=Hi&seed=-1", ask("Hi", seed=2**64 - 1)),
    ],
)
def test_a_query_is_a_chat_of_one_message(query: bytes, expected: GenerateRequest) -> None:
    assert parse_query(query) == expected


def test_of_a_field_that_is_there_twice_the_last_counts() -> None:
    assert parse_query(b"prompt=a&prompt=b&seed=1&seed=2") == ask("b", seed=2)


@pytest.mark.parametrize("value", [b"", b"=", b"=null"])
def test_an_optional_field_without_value_or_null_is_absent(value: bytes) -> None:
    fields = b"&".join(name + value for name in (b"max_tokens", b"temperature", b"seed"))
    assert parse_query(b"prompt=Hi&" + fields) == ask("Hi")


def test_unknown_fields_are_ignored() -> None:
    assert parse_query(b"prompt=Hi&last_event_id=x&model=other&%5B%5D=1") == ask("Hi")


@pytest.mark.parametrize("query", [b"", b"prompt", b"prompt=", b"Prompt=Hi", b"max_tokens=4"])
def test_a_prompt_is_required(query: bytes) -> None:
    assert refusal(parse_query, query).param == "prompt"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_tokens", ["0", "-1", "x", "1.5", "1_000", "9" * 30, "9" * 5000, "1e99", "true"]),
        ("temperature", ["-0.1", "2.1", "nan", "inf", "-inf", "1e999", "x", "true", "9" * 5000]),
        ("seed", [str(2**63), str(-(2**63) - 1), "x", "1.5", "%2B5", "+5", MARKER]),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_name(field: str, values: list[str]) -> None:
    for value in values:
        error = refusal(parse_query, f"prompt=Hi&{field}={value}".encode())
        assert (error.kind.status, error.param) == (400, field), value
        assert field in error.message


@pytest.mark.parametrize(
    "query",
    [
        b"prompt=%FF",
        b"prompt=\xff",
        b"prompt=%ED%A0%80",
        b"prompt=Hi&x=%C3",
        b"&".join([b"prompt=Hi"] * (MAX_FIELDS + 1)),
    ],
)
def test_a_query_that_is_not_utf8_or_too_long_is_refused(query: bytes) -> None:
    assert refusal(parse_query, query).param == "query"


def test_events_are_numbered_and_retry_is_inside_the_first() -> None:
    encoder = ChatStreamEncoder("job_77aa")
    assert encoder.encode(Delta(" two", (Token(1),), 1)) == (
        b'event: token\nid: job_77aa:1\nretry: 1000\ndata: {"text":" two"}\n\n'
    )
    assert encoder.heartbeat() == b": keep-alive\n"
    assert encoder.encode(Delta("\u2028\U0001f600", (Token(2),), 2)) == (
        b'event: token\nid: job_77aa:2\ndata: {"text":"\\u2028\\ud83d\\ude00"}\n\n'
    )
    assert encoder.encode(Finished("stop", Usage(4, 2), 2)) == (
        b'event: done\nid: job_77aa:3\ndata: {"finish_reason":"stop",'
        b'"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}\n\n'
    )


def test_a_failure_is_an_event_named_done() -> None:
    encoder = ChatStreamEncoder("job_1")
    assert encoder.encode(Failed(PenstockError(CANCELLED, "cancelled"))) == (
        b'event: done\nid: job_1:1\nretry: 1000\ndata: {"finish_reason":"error",'
        b'"error":{"message":"cancelled","type":"server_error","param":null,"code":"cancelled"}}\n\n'
    )
