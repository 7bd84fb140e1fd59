"""The `penstock.v1` WebSocket protocol: messages in, messages out.

Client: start, resume, pull, ack, cancel. Server: started, token, then exactly one of complete,
cancelled, error. A token costs one credit where credits were asked for; all else is free. Of a
resumable generation with a window, no more than so many messages are made that were not
acknowledged.
"""

from __future__ import annotations

from itertools import count
from json import dumps
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from penstock.errors import PenstockError, invalid
from penstock.events import Delta, Ended, Event, Failed, Finished
from penstock.protocols.body import explain
from penstock.protocols.common import check_bounds, render_error
from penstock.protocols.openai_answer import render_usage
from penstock.protocols.single import SingleBody, parse_single
from penstock.requests import GenerateRequest

SUBPROTOCOL = "penstock.v1"

# Close codes.
NORMAL = 1000
GOING_AWAY = 1001
BINARY = 1003
INTERNAL_ERROR = 1011
READER_STALLED = 1013
MALFORMED = 4400
UNAUTHORIZED = 4401
SILENT = 4408
BUSY = 4409

REASON_LIMIT = 123
"""Bytes of a close reason; ours are ASCII."""


class ProtocolError(ValueError):
    """A message that cannot be understood; the socket is closed with `MALFORMED`."""


class Start(SingleBody, tag="start", tag_field="type"):
    """Ask for a generation. Only types are checked before `request`, which can be refused."""

    credits: int | None = None
    resumable: bool | None = None

    def request(self) -> GenerateRequest:
        """What to generate. Raises `PenstockError`."""
        if self.window is not None and not self.resumable:
            raise invalid("window", "a window needs resumable: true; credits bound what is not")
        return parse_single(self)


class Resume(msgspec.Struct, tag="resume", tag_field="type"):
    """Read a job from behind number `after` on. Null credits are without limit."""

    job_id: str
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    credits: int | None = None

    def check(self) -> None:
        """Raises `PenstockError`."""
        check_bounds(self)


class Pull(msgspec.Struct, tag="pull", tag_field="type"):
    n: Annotated[int, Meta(ge=1, le=2**53)]


class Ack(msgspec.Struct, tag="ack", tag_field="type"):
    """Messages up to number `seq` have arrived."""

    seq: Annotated[int, Meta(ge=0, le=2**53)]


class Cancel(msgspec.Struct, tag="cancel", tag_field="type"):
    pass


ClientMessage: TypeAlias = Start | Resume | Pull | Ack | Cancel
_decoder = msgspec.json.Decoder(ClientMessage)


def parse(text: str) -> ClientMessage:
    """One client message. Raises `ProtocolError`, whose text is fit for a close reason."""
    try:
        message: ClientMessage = _decoder.decode(text)
        return message
    except msgspec.ValidationError as error:
        raise ProtocolError(explain(error).message[:REASON_LIMIT]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise ProtocolError("not JSON") from None


class MessageEncoder:
    """Events to server messages. `seq` counts on from `after`; the terminal has the last number."""

    def __init__(self, job_id: str, model: str, after: int = 0) -> None:
        self._job_id = job_id
        self._model = model
        self._after = after
        self._numbers = count(after + 1)

    def started(self) -> bytes:
        told = {"job_id": self._job_id, "model": self._model, "after": self._after}
        return _dump({"type": "started", **told})

    def encode(self, event: Event) -> bytes:
        number = next(self._numbers)
        match event:
            case Delta(text):
                return f'{{"type":"token","seq":{number},"text":{dumps(text)}}}'.encode()
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished(reason, usage):
                told = {"finish_reason": reason, "usage": render_usage(usage)}
                return self._terminal("complete", number, told)
            case Failed(error) if error.kind.cancelled:
                return self._terminal("cancelled", number, {})
            case Failed(error):
                return self._terminal("error", number, {"error": render_error(error)})

    def heartbeat(self) -> bytes:
        return b""

    def _terminal(self, kind: str, number: int, told: dict[str, Any]) -> bytes:
        return _dump({"type": kind, "seq": number, "job_id": self._job_id, **told})


def refusal(error: PenstockError) -> bytes:
    """A start or resume that was refused; the socket stays open."""
    return _dump({"type": "error", "error": render_error(error)})


def _dump(told: dict[str, Any]) -> bytes:
    return dumps(told, separators=(",", ":")).encode()
