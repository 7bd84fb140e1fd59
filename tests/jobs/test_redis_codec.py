"""What goes into Redis comes out as it was."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, replace
from typing import TYPE_CHECKING, Any

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
from penstock.origin import Origin
from penstock.requests import Caller, GenerateRequest, Grammar, Limit, Message, Sampling, Tools

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

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


SAMPLING = Sampling(
    temperature=0.5,
    top_k=3,
    top_p=0.9,
    min_p=0.1,
    repetition_penalty=1.5,
    frequency_penalty=0.25,
    presence_penalty=-0.25,
    logit_bias=((1, -100.0),),
    seed=2**63 - 1,
    unset=("top_k",),
)
MESSAGE = Message("tool", "é", ({"function": {"name": "f", "arguments": {"a": [1.5]}}},), "id", "f")
TOOLS = Tools(({"type": "function", "function": {"name": "f"}},), True, "f", False)
CALLER = Caller("me", "scope", 2.0, 3, ("m",), (Limit("tokens_per_day", 5),), True)
ORIGIN = Origin(
    number="1",
    request_id="2",
    generation_id="3",
    account="4",
    route="5",
    user_agent="6",
    traceparent="7",
    tracestate="8",
)
CHAT = GenerateRequest(
    messages=(MESSAGE,),
    model="m",
    max_tokens=3,
    sampling=SAMPLING,
    stop=("a", "b"),
    ignore_eos=True,
    caller=CALLER,
    n=2,
    logprobs=1,
    truncate=5,
    template_options=(("a", "b"), ("c", 1), ("d", 1.0), ("e", True)),
    grammar=Grammar("regex", "a+", "guided_regex"),
    tools=TOOLS,
)
ORDER = Order(
    request=CHAT,
    model="m",
    keep_s=0.5,
    window=2,
    unread_s=3.5,
    listed=False,
    owner="scope",
    key="k",
    digest=b"\xff\x00",
    origin=ORIGIN,
    ahead=64,
    about="x",
)
GAP = replace(ORDER, request=GenerateRequest(prompt="before", suffix="behind"))
BARE = {"GenerateRequest": {"prompt", "suffix"}}
"""What a chat has none of; `GAP` has it."""


@pytest.mark.parametrize("order", [ORDER, GAP], ids=["chat", "gap"])
def test_an_order_comes_back_with_all_its_fields(order: Order) -> None:
    back = decode_order(encode_order(order))
    assert back == order
    # Those that are not compared, and numbers that are equal but not the same.
    assert repr(back) == repr(order)


@pytest.mark.parametrize(
    "value",
    [ORDER, CHAT, SAMPLING, MESSAGE, TOOLS, CALLER, ORIGIN, CHAT.grammar],
    ids=lambda value: type(value).__name__,
)
def test_the_order_that_is_tried_leaves_no_field_out(value: DataclassInstance) -> None:
    """Whoever adds a field is told here to say what it looks like."""
    left = {each.name for each in fields(value) if _is_default(each, getattr(value, each.name))}
    assert left == BARE.get(type(value).__name__, set())


def _is_default(known: Field[Any], value: object) -> bool:
    made = known.default_factory() if known.default_factory is not MISSING else known.default
    return value == made


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
    "url", ["", "memory", "http://h", "redis://", "redis://h/x", "redis://h:x", "redis://secret@h"]
)
def test_what_is_no_address_says_how_one_is_written(url: str) -> None:
    with pytest.raises(ValueError, match="must be memory, redis://"):
        parse_address(url)
