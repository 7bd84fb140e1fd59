"""Which request this is: the client's own id where it can be used, else a new one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container
from typing import Any

from penstock.origin import Origin

USABLE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""What goes into headers, log lines and the path of a cancel without being quoted."""
FIELD_LIMIT = 256
"""Characters of a user agent, a path or a trace header: what log lines keep of them."""


def identify(scope: dict[str, Any], taken: Container[str] = ()) -> Origin:
    """The origin of an ASGI scope. An id that is `taken` names another request already."""
    # Reversed, so that the first of two headers of one name is the one that counts.
    headers = {key.lower(): value for key, value in reversed(scope["headers"])}
    number = secrets.token_hex(12)
    return Origin(
        number=number,
        request_id=_usable(headers.get(b"x-request-id", b""), taken) or number,
        route=scope["path"][:FIELD_LIMIT],
        user_agent=_text(headers.get(b"user-agent", b"")),
        traceparent=_text(headers.get(b"traceparent", b"")),
        tracestate=_text(headers.get(b"tracestate", b"")),
    )


def _usable(given: bytes, taken: Container[str]) -> str | None:
    if USABLE.fullmatch(given) and (name := given.decode("ascii")) not in taken:
        return name
    return None


def _text(value: bytes) -> str:
    return value[:FIELD_LIMIT].decode("latin-1")
