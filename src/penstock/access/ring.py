"""The keys as a running server sees them."""

from __future__ import annotations

import logging
from pathlib import Path

from penstock.access.keys import Key, KeyFileError, find_key, read_keys

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class KeyRing:
    """The keys of a file, which may be changed while the server runs.

    Raises `KeyFileError` where the file cannot be used at the start. A file that is broken later
    changes nothing: the keys read last stay valid, and the log says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: _Stamp | None = None
        self._keys = read_keys(path)
        self._stamp = self._look()

    def __repr__(self) -> str:
        return f"<KeyRing {self._path} with {len(self._keys)} keys>"

    def find(self, secret: str) -> Key | None:
        """The key whose secret this is, by what the file says now."""
        self._refresh()
        return find_key(self._keys, secret)

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except KeyFileError as error:
            log.error("the keys stay as they were: %s", error)
        else:
            log.info("keys were read again", extra={"keys": len(self._keys)})

    def _look(self) -> _Stamp | None:
        """What changes whenever the file is replaced or written. One call of 2 us a request."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
