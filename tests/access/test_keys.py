"""The key file: digests only, for its owner only, replaced as a whole, read again when changed."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from penstock.access.keys import (
    PREFIX,
    Key,
    KeyFileError,
    digest_of,
    find_key,
    new_secret,
    read_keys,
    write_keys,
)
from penstock.access.ring import KeyRing


def make_key(name: str, secret: str, **allowed: object) -> Key:
    return Key(name=name, digest=digest_of(secret), **allowed)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_file_is_for_its_owner_and_holds_no_secret(path: Path) -> None:
    secret = new_secret()
    write_keys(path, [make_key("ann", secret, weight=2.0, models=("a", "b"), tokens_per_day=5)])
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text()
    assert secret.removeprefix(PREFIX) not in path.read_text()
    assert os.listdir(path.parent) == [path.name]
    assert read_keys(path) == [
        make_key("ann", secret, weight=2.0, models=("a", "b"), tokens_per_day=5)
    ]


def test_a_key_is_found_by_its_exact_secret_only() -> None:
    secrets = [new_secret() for _ in range(3)]
    keys = [make_key(f"k{number}", secret) for number, secret in enumerate(secrets)]
    assert [find_key(keys, secret) for secret in secrets] == keys
    for other in ("", secrets[0].upper(), secrets[0].lower(), secrets[0] + " ", secrets[0][:-1]):
        assert other not in secrets
        assert find_key(keys, other) is None
    assert find_key(keys, keys[0].digest) is None
    assert find_key(keys, "\udcff") is None
    assert find_key([], secrets[0]) is None


def test_secrets_are_long_and_never_the_same() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.isascii() and len(secret) >= len(PREFIX) + 43 for secret in secrets)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_file_that_others_can_read_is_refused_with_what_to_do(path: Path, mode: int) -> None:
    write_keys(path, [])
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
        read_keys(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not a key file"),
        ("[]", "is not a key file"),
        ('{"keys": [{"name": "a"}]}', "digest"),
        ('{"keys": [], "more": 1}', "more"),
        ('{"keys": [{"name": "a b", "digest": "%s"}]}' % ("0" * 64), "name"),
        ('{"keys": [{"name": "a", "digest": "xyz"}]}', "digest"),
        ('{"keys": [{"name": "a", "digest": "%s", "weight": 0}]}' % ("0" * 64), "weight"),
        ('{"keys": [{"name": "a", "digest": "%s", "streams": -1}]}' % ("0" * 64), "streams"),
        (json.dumps({"keys": [{"name": "a", "digest": "0" * 64}] * 2}), "two keys of one name"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(path: Path, text: str, told: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=told) as caught:
        read_keys(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_or_written_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=f"{path} does not exist; make it with"):
        read_keys(path)
    with pytest.raises(KeyFileError, match="cannot write"):
        write_keys(tmp_path / "none" / "keys.json", [])


def test_a_ring_follows_its_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = new_secret(), new_secret()
    write_keys(path, [make_key("ann", old)])
    ring = KeyRing(path)
    assert (ring.find(old), ring.find(new)) == (make_key("ann", old), None)
    write_keys(path, [make_key("ben", new)])
    assert (ring.find(old), ring.find(new)) == (None, make_key("ben", new))
    write_keys(path, [])
    assert ring.find(new) is None
    assert repr(ring) == f"<KeyRing {path} with 0 keys>"


@pytest.mark.parametrize("damage", ["broken", "open", "gone"])
def test_a_file_that_breaks_locks_nobody_out_and_lets_nobody_in(
    path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    secret = new_secret()
    write_keys(path, [make_key("ann", secret)])
    ring = KeyRing(path)
    if damage == "broken":
        path.write_text("{")
    elif damage == "open":
        write_keys(path, [])
        path.chmod(0o644)
    else:
        path.unlink()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert ring.find(secret) == make_key("ann", secret)
            assert ring.find(new_secret()) is None
    assert len(caplog.records) == 1
    assert "the keys stay as they were" in caplog.text
    path.unlink(missing_ok=True)
    write_keys(path, [])
    assert ring.find(secret) is None


def test_a_ring_without_a_usable_file_does_not_start(path: Path) -> None:
    with pytest.raises(KeyFileError):
        KeyRing(path)
