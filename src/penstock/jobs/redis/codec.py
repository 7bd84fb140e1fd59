"""Orders, events and errors as bytes, and back. What was written once stays readable as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import DecodeError as DecodeError  # for whoever decodes

from penstock.errors import INTERNAL, KINDS, PenstockError
from penstock.events import Delta, Ended, Event, Failed, Figures, Finished
from penstock.jobs.job import Order

T = TypeVar("T")
_KINDS = {kind.code: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class _Failure:
    """`Failed` with its error spelled out."""

    code: str
    message: str
    param: str | None
    retry_after_s: int | None
    figures: Figures | None


_Record: TypeAlias = type[Delta] | type[Ended] | type[Finished] | type[_Failure]
_TAGS: dict[bytes, _Record] = {b"D": Delta, b"E": Ended, b"F": Finished, b"X": _Failure}
_TAG_OF = {record: tag for tag, record in _TAGS.items()}


def encode_order(order: Order) -> bytes:
    return msgspec.msgpack.encode(order)


def decode_order(data: bytes) -> Order:
    return _decode(data, Order)


def encode_event(event: Event) -> bytes:
    told = _spelled(event) if isinstance(event, Failed) else event
    return _TAG_OF[type(told)] + msgspec.msgpack.encode(told)


def decode_event(data: bytes) -> Event:
    if data[:1] not in _TAGS:
        raise DecodeError("a record of a kind that is not known")
    told = _decode(data[1:], _TAGS[data[:1]])
    return _failed(told) if isinstance(told, _Failure) else told


def encode_error(error: PenstockError) -> bytes:
    return encode_event(Failed(error))


def decode_error(data: bytes) -> PenstockError:
    failed = decode_event(data)
    assert isinstance(failed, Failed)
    return failed.error


def foreign() -> PenstockError:
    """In place of what cannot be decoded."""
    return PenstockError(
        INTERNAL, "another release wrote this job, which this one cannot read; submit it again"
    )


def _decode(data: bytes, kind: type[T]) -> T:
    return msgspec.msgpack.decode(data, type=kind)


def _spelled(failed: Failed) -> _Failure:
    error = failed.error
    return _Failure(
        error.kind.code, error.message, error.param, error.retry_after_s, failed.figures
    )


def _failed(told: _Failure) -> Failed:
    """A code that only another release knows is a fault of the server to this one."""
    kind = _KINDS.get(told.code, INTERNAL)
    error = PenstockError(kind, told.message, param=told.param, retry_after_s=told.retry_after_s)
    return Failed(error, told.figures)
