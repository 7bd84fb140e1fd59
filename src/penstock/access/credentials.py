"""The key that a request shows, wherever its client can put one. Pure; every input is hostile.

`Authorization: Bearer` is what OpenAI's clients send, `x-api-key` what Anthropic's do. A browser
can set neither on a WebSocket: there a subprotocol carries the key, in base64url without padding,
since not every key is a token of RFC 9110.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import Error
from collections.abc import Iterable, Iterator

PROTOCOL_PREFIX = "penstock.key."
"""Offered beside the protocol that is spoken, and never answered with."""

_BEARER = re.compile(rb"bearer +([^\s]+) *", re.IGNORECASE)


def shown_key(headers: Iterable[tuple[bytes, bytes]], protocols: Iterable[str]) -> str | None:
    """The one key of a request; None if there is none, or if two places name different ones."""
    shown = {*_in_headers(headers), *_in_protocols(protocols)}
    return shown.pop() if len(shown) == 1 else None


def _in_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    for name, value in headers:
        match name.lower():
            case b"authorization" if found := _BEARER.fullmatch(value):
                yield found[1].decode("latin-1")
            case b"x-api-key":
                yield value.strip().decode("latin-1")


def _in_protocols(protocols: Iterable[str]) -> Iterator[str]:
    for offered in protocols:
        if offered.startswith(PROTOCOL_PREFIX):
            yield _decoded(offered.removeprefix(PROTOCOL_PREFIX))


def _decoded(text: str) -> str:
    """Nothing, which is no key, for what is not base64url."""
    try:
        data = text.encode("ascii")
        return urlsafe_b64decode(data + b"=" * (-len(data) % 4)).decode("latin-1")
    except (Error, ValueError):
        return ""
