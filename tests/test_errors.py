"""Each kind of failure has an answer that clients can live with."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import errors
from penstock.errors import (
    CANCELLED,
    CONTEXT_LENGTH,
    INTERNAL,
    INVALID_VALUE,
    KINDS,
    MESSAGE_LIMIT,
    OVERLOADED,
    QUOTA_EXCEEDED,
    TIMED_OUT,
    UNSUPPORTED,
    Kind,
    PenstockError,
    internal,
    invalid,
    reraise_single,
    unsupported,
)
from penstock.protocols.openai import dump_error

STATUSES = {400, 401, 403, 404, 405, 408, 413, 422, 429, 500}
RETRIED_BY_CLIENTS = {408, 409, 501, 503}


def test_every_kind_is_listed_once() -> None:
    defined = [value for value in vars(errors).values() if isinstance(value, Kind)]
    assert sorted(defined, key=repr) == sorted(KINDS, key=repr)
    assert len({kind.code for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_a_kind_has_a_status_that_no_client_retries_by_mistake(kind: Kind) -> None:
    # A body that came too slowly may come faster the next time: this one is to be retried.
    retried = set() if kind is TIMED_OUT else RETRIED_BY_CLIENTS
    assert kind.status in STATUSES - retried
    assert kind.retryable == (kind.status == 429 and kind is not QUOTA_EXCEEDED)
    assert kind.code
    assert kind.type.endswith("_error") or kind.type == "insufficient_quota"
    assert kind.reason in {
        "failed",
        "shutdown",
        "stalled",
        "deadline",
        "client",
        "unread",
        "overloaded",
        "quota",
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_kind_renders_with_all_four_keys(kind: Kind) -> None:
    error = json.loads(dump_error(PenstockError(kind, "because")))["error"]
    assert error == {"message": "because", "type": kind.type, "param": None, "code": kind.code}


@given(
    message=st.text(min_size=1) | st.text(min_size=1).map(lambda text: text * 1000),
    kind=st.sampled_from(KINDS),
)
def test_a_message_is_cut_so_that_the_body_stays_below_1_kib(message: str, kind: Kind) -> None:
    error = PenstockError(kind, message, param="p" * 100, retry_after_s=60)
    assert len(dump_error(error)) < 1024
    assert message.startswith(error.message)
    assert error.message
    assert str(error) == error.message


@pytest.mark.parametrize(
    ("character", "kept"),
    [("x", MESSAGE_LIMIT), ('"', MESSAGE_LIMIT // 2), ("\n", MESSAGE_LIMIT // 2),
     ("\xe9", MESSAGE_LIMIT // 6), ("\U0001f600", MESSAGE_LIMIT // 12)],
)  # fmt: skip
def test_what_counts_of_a_message_is_its_escaped_length(character: str, kept: int) -> None:
    assert internal_saying(character * 5000).message == character * kept
    assert internal_saying(character * kept).message == character * kept


def internal_saying(message: str) -> PenstockError:
    return PenstockError(INTERNAL, message)


def test_shorthands() -> None:
    for error, kind in (
        (invalid("n", "n is bad"), INVALID_VALUE),
        (unsupported("n", "n is bad"), UNSUPPORTED),
    ):
        assert (error.kind, error.param, error.message) == (kind, "n", "n is bad")
    assert (internal().kind, internal().param, internal().retry_after_s) == (INTERNAL, None, None)


@pytest.mark.parametrize(
    "error",
    [
        internal(),
        invalid("messages[0].role", "x" * 5000),
        PenstockError(OVERLOADED, "later", retry_after_s=7),
        PenstockError(CANCELLED, "\U0001f600"),
        PenstockError(Kind("of_a_test", "server_error", 500), "unlisted"),
    ],
    ids=lambda error: error.kind.code,
)
def test_an_error_survives_pickling_and_copying(error: PenstockError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is PenstockError
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_the_kind_of_an_unpickled_error_is_the_very_kind(kind: Kind) -> None:
    assert pickle.loads(pickle.dumps(PenstockError(kind, "x"))).kind is kind


def test_the_one_exception_in_nested_groups_is_raised_bare() -> None:
    fault = invalid("n", "bad")
    group = BaseExceptionGroup("a", [ExceptionGroup("b", [ExceptionGroup("c", [fault])])])
    with pytest.raises(PenstockError) as caught:
        reraise_single(group)
    assert caught.value is fault
    assert caught.value.__cause__ is None


def test_a_base_exception_is_unwrapped_too() -> None:
    with pytest.raises(KeyboardInterrupt):
        reraise_single(BaseExceptionGroup("a", [BaseExceptionGroup("b", [KeyboardInterrupt()])]))


def test_where_there_are_several_the_innermost_group_of_them_is_raised() -> None:
    several = ExceptionGroup("b", [ValueError(), PenstockError(CONTEXT_LENGTH, "x")])
    with pytest.raises(ExceptionGroup) as caught:
        reraise_single(ExceptionGroup("a", [several]))
    assert caught.value is several
