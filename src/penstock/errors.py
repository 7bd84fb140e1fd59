"""Every way a request can fail, each with its own answer.

A `Kind` says how an error looks on each wire; a `PenstockError` is one occurrence of a kind.
Rendering happens in `protocols` only, and in one place per dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from json import dumps
from typing import Any, NoReturn

MESSAGE_LIMIT = 600
"""Bytes of a message once escaped as JSON. With its frame an error body stays under 1 KiB."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of error is told: OpenAI `code` and `type`, HTTP status, retry or not.

    Statuses follow what clients do with them: 408, 409, 501 and 503 are retried by some without
    pause, so none of them is used where that does not help. It does after an upload that was slow.
    """

    code: str
    type: str
    status: int
    retryable: bool = False
    reason: str = "failed"
    """The word under which a generation that ended this way is counted and logged."""
    cancelled: bool = False
    """Nobody wanted it any more; `reason` says how that was known."""


INVALID_VALUE = Kind("invalid_value", "invalid_request_error", 400)
INVALID_JSON = Kind("invalid_json", "invalid_request_error", 400)
UNSUPPORTED = Kind("unsupported_parameter", "invalid_request_error", 400)
CONTEXT_LENGTH = Kind("context_length_exceeded", "invalid_request_error", 400)
INVALID_KEY = Kind("invalid_api_key", "authentication_error", 401)
FORBIDDEN = Kind("forbidden", "permission_error", 403)
NOT_FOUND = Kind("not_found", "invalid_request_error", 404)
REQUEST_NOT_FOUND = Kind("request_not_found", "invalid_request_error", 404)
JOB_NOT_FOUND = Kind("job_not_found", "invalid_request_error", 404)
MODEL_NOT_FOUND = Kind("model_not_found", "invalid_request_error", 404)
METHOD_NOT_ALLOWED = Kind("method_not_allowed", "invalid_request_error", 405)
TIMED_OUT = Kind("request_timeout", "invalid_request_error", 408)
TOO_LARGE = Kind("request_too_large", "invalid_request_error", 413)
KEY_REUSED = Kind("idempotency_key_reused", "invalid_request_error", 422)
OVERLOADED = Kind("overloaded", "overloaded_error", 429, retryable=True, reason="overloaded")
QUOTA_EXCEEDED = Kind("quota_exceeded", "insufficient_quota", 429, reason="quota")
UNAVAILABLE = Kind("unavailable", "overloaded_error", 429, retryable=True, reason="shutdown")
STALLED = Kind("stalled", "server_error", 500, reason="stalled")
CANCELLED = Kind("cancelled", "server_error", 500, reason="client", cancelled=True)
UNREAD = Kind("unread", "server_error", 500, reason="unread", cancelled=True)
DEADLINE = Kind("deadline_exceeded", "server_error", 500, reason="deadline")
INTERNAL = Kind("internal_error", "server_error", 500)

KINDS = (
    INVALID_VALUE,
    INVALID_JSON,
    UNSUPPORTED,
    CONTEXT_LENGTH,
    INVALID_KEY,
    FORBIDDEN,
    NOT_FOUND,
    REQUEST_NOT_FOUND,
    JOB_NOT_FOUND,
    MODEL_NOT_FOUND,
    METHOD_NOT_ALLOWED,
    TIMED_OUT,
    TOO_LARGE,
    KEY_REUSED,
    OVERLOADED,
    QUOTA_EXCEEDED,
    UNAVAILABLE,
    STALLED,
    CANCELLED,
    UNREAD,
    DEADLINE,
    INTERNAL,
)


class PenstockError(Exception):
    """One failure, told to the one client that it concerns.

    `message` says what was wrong and what to do; it never echoes input. `param` names the field.
    `retry_after_s` is whole seconds, from 1 to 60 where a client is to try again: openai-python
    gives up above 120 s and ignores 0.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        self.message = _cut(message)
        super().__init__(self.message)
        self.kind = kind
        self.param = param
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.kind, self.message, self.param, self.retry_after_s)


def _rebuild(kind: Kind, message: str, param: str | None, retry: int | None) -> PenstockError:
    """Kinds are told apart with `is`, so a copy of one is replaced by the one."""
    known = next((each for each in KINDS if each == kind), kind)
    return PenstockError(known, message, param=param, retry_after_s=retry)


def _cut(message: str) -> str:
    sizes = accumulate(len(dumps(character)) - 2 for character in message[:MESSAGE_LIMIT])
    return message[: sum(size <= MESSAGE_LIMIT for size in sizes)]


def invalid(param: str, message: str) -> PenstockError:
    """The field named `param` has a value that cannot be used."""
    return PenstockError(INVALID_VALUE, message, param=param)


def unsupported(param: str, message: str) -> PenstockError:
    """The field named `param` is known, and ignoring it would change the result silently."""
    return PenstockError(UNSUPPORTED, message, param=param)


def overloaded(retry_after_s: int, why: str = "all places are taken") -> PenstockError:
    """There is no place for this request; it may be repeated."""
    message = f"{why}; try again after the time in Retry-After"
    return PenstockError(OVERLOADED, message, retry_after_s=retry_after_s)


def internal() -> PenstockError:
    """The fault is ours. What happened is in the log, never in the answer."""
    return PenstockError(INTERNAL, "the server failed on this request; its log says why")


def reraise_single(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the one exception inside nested groups, or the group where there are several.

    Trio's nurseries always raise groups; this is the only place where they are unwrapped.
    """
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    raise error from None
