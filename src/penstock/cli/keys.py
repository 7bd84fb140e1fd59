"""`penstock keys`: add, list, revoke."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from penstock.access.keys import (
    Key,
    KeyFileError,
    digest_of,
    new_secret,
    read_keys,
    write_keys,
)
from penstock.settings import ENV_PREFIX

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def keys() -> None:
    """Keep the file of API keys. A server that uses it sees changes at once."""


def _file_option(function: F) -> F:
    return click.option(
        "--keys",
        "path",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar=f"{ENV_PREFIX}KEYS",
        default="keys.json",
        show_default=True,
        help="The key file.",
    )(function)


def _limit(name: str, text: str) -> Callable[[F], F]:
    return click.option(
        name, type=click.IntRange(0), default=0, help=f"{text}  [default: no limit]"
    )


@keys.command()
@click.argument("name")
@_file_option
@click.option("--admin", is_flag=True, help="May use the control routes.")
@click.option("--weight", type=float, default=1.0, show_default=True, help="Share of the slots.")
@click.option("--model", "models", multiple=True, help="A model it may use.  [default: all]")
@_limit("--streams", "Streams at once.")
@_limit("--requests-per-minute", "Requests a minute.")
@_limit("--tokens-per-minute", "Tokens a minute, of prompts and answers.")
@_limit("--tokens-per-day", "Tokens a day, of prompts and answers.")
def add(name: str, path: Path, **allowed: object) -> None:
    """Make a key called NAME and print it. It is shown this once."""
    secret = new_secret()
    with _told():
        known = read_keys(path) if path.exists() else []
        if any(key.name == name for key in known):
            raise KeyFileError(f"{path} has a key called {name}; revoke it first")
        write_keys(path, [*known, _make(name, secret, allowed)])
    click.echo(secret)


@keys.command("list")
@_file_option
def list_(path: Path) -> None:
    """List the keys and what they allow."""
    with _told():
        known = read_keys(path)
    for key in known:
        rest = {name: value for name, value in msgspec.structs.asdict(key).items() if value}
        told = " ".join(f"{name}={_plain(value)}" for name, value in rest.items())
        click.echo(told.replace(f"digest={key.digest}", f"sha256={key.digest[:12]}"))


@keys.command()
@click.argument("name")
@_file_option
def revoke(name: str, path: Path) -> None:
    """Take the key called NAME out. Its next request is refused."""
    with _told():
        known = read_keys(path)
        left = [key for key in known if key.name != name]
        if len(left) == len(known):
            raise KeyFileError(f"{path} has no key called {name}")
        write_keys(path, left)
    click.echo(f"revoked {name}", err=True)


def _make(name: str, secret: str, allowed: dict[str, object]) -> Key:
    fields = {"name": name, "digest": digest_of(secret), **allowed}
    try:
        return msgspec.convert(fields, Key)
    except msgspec.ValidationError as error:
        raise KeyFileError(f"this makes no key: {error}") from None


def _plain(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


@contextmanager
def _told() -> Iterator[None]:
    """A `KeyFileError` as one line."""
    try:
        yield
    except KeyFileError as error:
        raise click.ClickException(str(error)) from None
