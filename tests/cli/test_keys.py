"""`penstock keys`: what it prints, writes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.access.keys import find_key, read_keys

from .conftest import Invoke


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("PENSTOCK_KEYS", str(path))
    return path


def test_a_key_is_made_listed_and_revoked(invoke: Invoke, file: Path) -> None:
    made = invoke(
        "keys", "add", "ann", "--weight=2", "--model=a", "--model=b", "--tokens-per-day=100"
    )
    assert made.exit_code == 0
    (secret,) = made.stdout.splitlines()
    key = find_key(read_keys(file), secret)
    assert key is not None
    assert (key.name, key.weight, key.models, key.tokens_per_day) == ("ann", 2.0, ("a", "b"), 100)
    assert (key.admin, key.streams) == (False, 0)
    other = invoke("keys", "add", "ben", "--admin").stdout.strip()
    listed = invoke("keys", "list").stdout.splitlines()
    assert listed[0].startswith(f"name=ann sha256={key.digest[:12]} weight=2.0 models=a,b ")
    assert listed[1].startswith("name=ben ")
    assert "admin=True" in listed[1]
    assert not any(hidden in line for line in listed for hidden in (secret, other, key.digest))
    assert invoke("keys", "revoke", "ann").exit_code == 0
    assert [key.name for key in read_keys(file)] == ["ben"]
    assert find_key(read_keys(file), other) is not None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "ben"), "has a key called ben; revoke it first"),
        (("add", "two words"), "this makes no key"),
        (("add", "x", "--weight=0"), "this makes no key"),
        (("add", "x", "--weight=nan"), "this makes no key"),
        (("revoke", "nobody"), "has no key called nobody"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    invoke: Invoke, file: Path, arguments: tuple[str, ...], told: str
) -> None:
    invoke("keys", "add", "ben")
    before = file.read_bytes()
    result = invoke("keys", *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert file.read_bytes() == before


def test_a_missing_file_is_named(invoke: Invoke, file: Path) -> None:
    for command in (("list",), ("revoke", "x")):
        result = invoke("keys", *command)
        assert (result.exit_code, result.stderr) == (
            1,
            f"Error: {file} does not exist; make it with `penstock keys add NAME --keys {file}`\n",
        )
