"""The door: who asks is known before anything is routed, so that no route can forget to look.

What is not named here needs a key, whatever it is and however its path is written: the names are
compared with the path as the routes will see it, letter by letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from penstock.access.callers import caller_at, caller_with
from penstock.access.credentials import shown_key
from penstock.access.ring import KeyRing
from penstock.errors import FORBIDDEN, INVALID_KEY, PenstockError
from penstock.requests import ANYBODY, Caller
from penstock.settings import Settings

OPEN_PATHS = ("/health", "/ready")
"""For load balancers, which have no key."""
OPEN_PAGES = ("/", "/static/")
"""For browsers, which cannot send a key when they load a page. What is there is no secret."""

_CALLER = "penstock.caller"
_AGAIN = "penstock.caller_again"


class Door:
    """Lets in whoever has a key in `keys`; where there are no keys, everybody.

    `open_pages` says whether `OPEN_PAGES` are for everybody too.
    """

    def __init__(self, keys: KeyRing | None = None, *, open_pages: bool = True) -> None:
        self._keys = keys
        self._open_pages = open_pages

    def __repr__(self) -> str:
        return f"<Door {self._keys or 'without keys'}>"

    @property
    def is_locked(self) -> bool:
        return self._keys is not None

    def enter(self, scope: dict[str, Any]) -> dict[str, Any]:
        """The scope of a request with its caller in it. Raises `PenstockError`."""
        return {**scope, _CALLER: self._caller(scope), _AGAIN: partial(self._caller, scope)}

    def _caller(self, scope: dict[str, Any]) -> Caller:
        if self._keys is None:
            return caller_at((scope.get("client") or ("",))[0])
        shown = shown_key(scope["headers"], scope.get("subprotocols") or ())
        key = self._keys.find(shown) if shown else None
        if key is not None:
            return caller_with(key)
        if self._is_open(scope):
            return ANYBODY
        raise PenstockError(
            INVALID_KEY,
            "this server needs an API key; send one it knows as Authorization: Bearer …",
        )

    def _is_open(self, scope: dict[str, Any]) -> bool:
        if scope["type"] != "http":
            return False
        path = scope["path"]
        return path in OPEN_PATHS or (
            self._open_pages and scope["method"] in ("GET", "HEAD") and _is_page(path)
        )


def make_door(settings: Settings) -> Door:
    """As the settings say. Raises `KeyFileError`."""
    keys = KeyRing(Path(settings.keys)) if settings.keys else None
    return Door(keys, open_pages=settings.open_pages)


def caller_of(scope: Mapping[str, object]) -> Caller:
    """Who was let in with this scope."""
    caller = scope.get(_CALLER)
    return caller if isinstance(caller, Caller) else ANYBODY


def look_again(scope: Mapping[str, object]) -> Caller:
    """Who it is by what the key file says now: a socket may outlive its key.

    Raises `PenstockError`.
    """
    again = scope.get(_AGAIN)
    caller = again() if callable(again) else None
    return caller if isinstance(caller, Caller) else ANYBODY


def require_admin(caller: Caller) -> None:
    """Raises `PenstockError` for whoever may not control the server."""
    if not caller.admin:
        raise PenstockError(FORBIDDEN, "this needs an admin key; see penstock keys add --admin")


def _is_page(path: str) -> bool:
    """No way leads from one of them to something else."""
    segments = path.split("/")[1:]
    if ".." in segments or "\\" in path or "" in segments[:-1]:
        return False
    return any(path == page or (page != "/" and path.startswith(page)) for page in OPEN_PAGES)
