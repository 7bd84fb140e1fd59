"""API keys: a file of digests that is read again whenever it has changed.

A key is 256 random bits, so its SHA-256 needs no salt and no slow hash. The file holds digests only
and is readable by its owner only; the key itself is shown once, when it is made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated

import msgspec
from msgspec import Meta

PREFIX = "sk-penstock-"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"

Limit = Annotated[int, Meta(ge=0)]
"""0 sets no limit."""


class KeyFileError(ValueError):
    """A key file that cannot be used; the message says why and what to do."""


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key: whose it is and what it allows. `models` empty means all of them."""

    name: Annotated[str, Meta(pattern=NAME)]
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    admin: bool = False
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    models: tuple[str, ...] = ()
    streams: Limit = 0
    requests_per_minute: Limit = 0
    tokens_per_minute: Limit = 0
    tokens_per_day: Limit = 0


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key] = msgspec.field(default_factory=list)


def new_secret() -> str:
    """A key that nobody can guess."""
    return PREFIX + token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What the file holds of a key."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """The keys of a file. Raises `KeyFileError`."""
    try:
        with path.open("rb") as file:
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            keys = msgspec.json.decode(file.read(), type=_File).keys
    except FileNotFoundError:
        raise KeyFileError(
            f"{path} does not exist; make it with `penstock keys add NAME --keys {path}`"
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} is not a key file: {error}") from None
    if len({key.name for key in keys}) < len(keys):
        raise KeyFileError(f"{path} has two keys of one name; take one out")
    return keys


def write_keys(path: Path, keys: Sequence[Key]) -> None:
    """Replace the file as a whole, so that a reader never sees half of it.

    Raises `KeyFileError`.
    """
    data = msgspec.json.format(msgspec.json.encode(_File(list(keys))), indent=2)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None


def find_key(keys: Iterable[Key], secret: str) -> Key | None:
    """The key whose secret this is. Compares with all of them, each in constant time."""
    digest = digest_of(secret)
    found = None
    for key in keys:
        if compare_digest(key.digest, digest):
            found = key
    return found


def _check_mode(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
