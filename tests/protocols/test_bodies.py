"""Whatever arrives, a parser gives a request or exactly one error of its own kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple
from typing import Any, TypeAlias
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.engine.tokenizer import Tokenizer
from penstock.errors import PenstockError
from penstock.protocols import websocket
from penstock.protocols.native import parse_query
from penstock.protocols.openai import parse_chat, parse_completion
from penstock.requests import GenerateRequest

from .asking import FUZZ, check_error

Parser: TypeAlias = Callable[[bytes], GenerateRequest | None]


def chat_request(body: bytes) -> GenerateRequest:
    return parse_chat(body).request


def completion_request(body: bytes) -> GenerateRequest:
    return parse_completion(body).request


def socket_request(body: bytes) -> GenerateRequest | None:
    """`surrogateescape` gives texts with lone surrogates, which no server should hand over."""
    message = websocket.parse(body.decode("utf-8", "surrogateescape"))
    return message.request() if isinstance(message, websocket.Start) else None


PARSERS: dict[str, Parser] = {
    "chat": chat_request,
    "completion": completion_request,
    "socket": socket_request,
    "query": parse_query,
}
MESSAGE = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
VALID: dict[str, Any] = {
    "type": "start",
    "prompt": "Hi",
    "messages": [MESSAGE, {"role": "assistant", "content": None}],
    "model": "default",
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "max_completion_tokens": 6,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "seed": 1,
    "stop": ["a", "b"],
    "n": 1,
    "logit_bias": {"5": 0.5},
    "response_format": {"type": "text"},
    "tool_choice": "auto",
    "suffix": "",
    "credits": 3,
}
ODD: list[object] = [
    0,
    -1,
    2**63,
    10**400,
    1e308,
    0.5,
    True,
    None,
    "",
    "\ud800",
    "\x00",
    [],
    {},
    [[]],
    [None],
]

JSON = ["chat", "completion", "socket"]

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def as_body(value: object) -> bytes:
    return json.dumps(value).encode()


def valid(name: str) -> dict[str, Any]:
    """A body that `name` accepts. A socket takes a prompt or messages, never both."""
    left_out = "messages" if name == "socket" else ""
    return {key: value for key, value in VALID.items() if key != left_out}


def attempt(name: str, body: bytes) -> GenerateRequest | None:
    """The request, if there is one. Any other exception than the parser's own fails the test."""
    try:
        request = PARSERS[name](body)
    except PenstockError as error:
        check_error(error)
        return None
    except websocket.ProtocolError:
        assert name == "socket"
        return None
    if request is not None:
        assert request.sampling.temperature >= 0
        assert request.sampling.seed is None or 0 <= request.sampling.seed < 2**64
        assert 0.01 <= request.sampling.repetition_penalty <= 10
        assert all(id_ >= 0 and -100 <= by <= 100 for id_, by in request.sampling.logit_bias)
        assert request.logprobs is None or 0 <= request.logprobs <= 20
        assert request.max_tokens is None or 1 <= request.max_tokens <= 1 << 20
        # A lone surrogate would be refused here, as it would by the tokenizer.
        json.dumps(astuple(request), ensure_ascii=False).encode()
    return request


@pytest.mark.parametrize("name", PARSERS)
@FUZZ
@given(body=st.binary() | st.text().map(str.encode))
@example(body=b"")
@example(body=b'\xed\xa0\x80="')
@example(body=b"prompt=%ed%a0%80&prompt=%")
def test_any_bytes(name: str, body: bytes) -> None:
    attempt(name, body)


@pytest.mark.parametrize("name", JSON)
@FUZZ
@given(value=values)
def test_any_json(name: str, value: object) -> None:
    attempt(name, as_body(value))


@pytest.mark.parametrize("name", JSON)
def test_the_bodies_changed_below_are_accepted_as_they_are(name: str) -> None:
    assert attempt(name, as_body(valid(name))) is not None


@pytest.mark.parametrize("name", JSON)
@FUZZ
@given(changes=st.dictionaries(st.sampled_from(sorted(VALID)), st.sampled_from(ODD) | values))
def test_a_valid_body_with_other_values(name: str, changes: dict[str, object]) -> None:
    attempt(name, as_body(valid(name) | changes))


@FUZZ
@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from(["prompt", "max_tokens", "temperature", "seed", "other"]),
            st.text()
            | st.integers()
            | st.floats()
            | st.sampled_from(["null", "", "1e5", "\u0661"]),
        )
    )
)
def test_any_query(fields: list[tuple[str, object]]) -> None:
    attempt("query", urlencode(fields).encode())


@pytest.mark.parametrize("name", JSON)
@FUZZ
@given(data=st.data())
def test_a_valid_body_with_bytes_lost_or_changed(name: str, data: st.DataObject) -> None:
    body = bytearray(as_body(valid(name)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position : position + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"null", b"{", b"]", b'"', b"\\ud800", b"NaN"])
        )
    attempt(name, bytes(body))


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("place", ["nobody_knows", "messages", "prompt", "stop", "response_format"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("closed", [True, False])
def test_ten_thousand_levels(
    name: str, place: str, opening: str, closing: str, closed: bool
) -> None:
    deep = opening * 10_000 + "1" + closing * (10_000 * closed)
    rest = as_body(valid(name)).decode()[1:]
    assert attempt(name, f'{{"{place}":{deep},{rest}'.encode()) is None
    assert attempt(name, deep.encode()) is None


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize(
    "escape", [r"\ud800", r"\udfff", r"a\ud83d", r"\ud83d\ud83d", r"\ude00\ud83d"]
)
def test_a_lone_surrogate_is_refused_wherever_it_is(name: str, escape: str) -> None:
    accepted = valid(name) | {"unknown": "here"}
    for field in ("prompt", "model", "unknown", "messages"):
        value = [{"role": "user", "content": "?"}] if field == "messages" else "?"
        body = as_body(accepted | {field: value})
        refused = attempt(name, body.replace(b'"?"', f'"{escape}"'.encode()))
        assert refused is None, field
    assert attempt(name, as_body(accepted)) is not None


def test_a_paired_surrogate_is_one_character_that_the_tokenizer_takes(
    tokenizer: Tokenizer,
) -> None:
    request = completion_request(rb'{"prompt":"\ud83d\ude00"}')
    assert request.prompt == "\U0001f600"
    assert tokenizer.encode(request.prompt)


@FUZZ
@given(text=st.text(min_size=1))
def test_any_prompt_that_is_accepted_can_be_tokenised(tokenizer: Tokenizer, text: str) -> None:
    request = completion_request(json.dumps({"prompt": text}).encode())
    assert request.prompt == text
    assert tokenizer.encode(text)
    assert tokenizer.encode_chat(chat_request(as_body({"messages": [MESSAGE]})).messages or ())
