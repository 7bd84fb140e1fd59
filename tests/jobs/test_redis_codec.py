"""What goes into Redis comes out as it was."""

from __future__ import annotations

from math import inf

import pytest

from penstock.errors import KINDS, PenstockError
from penstock.events import Delta, Ended, Event, Failed, Figures, Finished, Token, Usage
from penstock.jobs.job import Order
from penstock.jobs.redis.address import Address, parse_address
from penstock.jobs.redis.codec import (
    decode_error,
    decode_event,
    decode_order,
    encode_error,
    encode_event,
    encode_order,
)
from penstock.requests import Caller, GenerateRequest, Limit, Message, Sampling

FIGURES = Figures(0.5, None, 3, None)


@pytest.mark.parametrize(
    "event",
    [
        Delta("é\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), (Token(7),), 1),
        Delta("x", (Token(1, -0.5, ((1, -0.5), (2, -3.25))), Token(2)), 9, choice=3),
        Ended("length", 4, (Token(3),), cut=" x", choice=1),
        Finished("stop", Usage(3, 4), 4, (Token(3),), cut=" x", figures=FIGURES),
    ],
    ids=lambda event: type(event).__name__,
)
def test_events_come_back_equal(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_errors_come_back_as_the_kinds_they_are(kind: object) -> None:
    known = next(each for each in KINDS if each is kind)
    error = PenstockError(known, "what", param="n", retry_after_s=3)
    failed = decode_event(encode_event(Failed(error, FIGURES)))
    assert isinstance(failed, Failed)
    assert failed.figures == FIGURES
    for back in (failed.error, decode_error(encode_error(error))):
        assert back.kind is known
        assert (back.message, back.param, back.retry_after_s) == ("what", "n", 3)


def test_an_order_comes_back_equal() -> None:
    request = GenerateRequest(
        messages=(Message("user", "hi"),),
        max_tokens=3,
        sampling=Sampling(seed=2**63 - 1, logit_bias=((1, -100.0),), unset=("top_k",)),
        stop=("a", "b"),
        caller=Caller("me", "scope", 2.0, 3, ("m",), (Limit("tokens_per_day", 5),)),
    )
    order = Order(request=request, model="m", keep_s=0.5, window=2, key="k", digest=b"\xff\x00")
    back = decode_order(encode_order(order))
    assert back == order
    assert (back.unread_s, back.request.sampling.unset) == (inf, ("top_k",))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", Address("localhost", 6379)),
        ("redis://127.0.0.1:7000/3", Address("127.0.0.1", 7000, 3)),
        ("redis://[::1]:7000", Address("::1", 7000)),
        ("rediss://me:p%40ss@h", Address("h", 6379, 0, "me", "p@ss", tls=True)),
        ("redis://:secret@h", Address("h", 6379, 0, None, "secret")),
    ],
)
def test_addresses_are_read(url: str, address: Address) -> None:
    assert parse_address(url) == address
    assert "ss@" not in str(address)
    assert "secret" not in str(address)


@pytest.mark.parametrize(
    "url", ["", "memory", "http://h", "redis://", "redis://h/x", "redis://h:x"]
)
def test_what_is_no_address_says_how_one_is_written(url: str) -> None:
    with pytest.raises(ValueError, match="must be memory, redis://"):
        parse_address(url)
