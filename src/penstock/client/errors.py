"""What a client raises: the server's errors under the server's codes, and lost connections."""

from __future__ import annotations

from typing import Any

import httpx

from penstock.errors import INTERNAL, KINDS, Kind, PenstockError

BY_CODE = {kind.code: kind for kind in KINDS}


class ServerError(PenstockError):
    """What the server said. `kind` is one of `penstock.errors.KINDS`, by the wire's code."""


class ConnectionLostError(Exception):
    """The server could not be reached, as often as was tried."""


def error_of(told: dict[str, Any]) -> ServerError:
    """An error object of the wire. An unknown code becomes a kind of its own."""
    code = told.get("code") or INTERNAL.code
    kind = BY_CODE.get(code) or Kind(code, told.get("type") or INTERNAL.type, INTERNAL.status)
    message, param = told.get("message") or code, told.get("param")
    return ServerError(kind, message, param=param, retry_after_s=told.get("retry_after"))


def refusal_of(response: httpx.Response) -> ServerError:
    """A response with a status of 400 or above, whose body was read."""
    try:
        told = response.json()["error"]
        error = error_of(told)
    except (ValueError, KeyError, TypeError, AttributeError):
        status = response.status_code
        message = f"HTTP {status} without an error object: is this a penstock server?"
        kind = Kind("unexpected_response", INTERNAL.type, status)
        return ServerError(kind, message)
    wait = response.headers.get("Retry-After", "")
    if error.retry_after_s is None and wait.isdecimal():
        error.retry_after_s = int(wait)
    return error
