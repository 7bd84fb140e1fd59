"""Commands that ask a running server: their options, and how they find it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from penstock.client.blocking import Client

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE_S = 5.0


def server_options(function: F) -> F:
    """A decorator: the URL as an argument, the key as an option."""
    key = click.option(
        "--api-key", envvar="PENSTOCK_API_KEY", help="Key of a server that asks for one."
    )
    url = click.argument(
        "url", envvar="PENSTOCK_URL", default="http://127.0.0.1:8000", callback=_check_url
    )
    return url(key(function))


@contextmanager
def connected(url: str, api_key: str | None) -> Iterator[Client]:
    """A client whose errors are told in one line."""
    try:
        from penstock.client import ConnectionLostError, ServerError
        from penstock.client.blocking import Client
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"this command needs {error.name}; pip install 'penstock[client]'"
        ) from None
    _knock(url)
    with Client(url, api_key=api_key) as client:
        try:
            yield client
        except (ServerError, ConnectionLostError) as error:
            raise click.ClickException(str(error)) from None


def _knock(url: str) -> None:
    """The client goes on trying for seconds, which is for servers that were there already."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(
            f"no server at {url} ({reason}); start one with `penstock serve`, or name its URL"
        ) from None


def _check_url(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise click.BadParameter(f"{value!r} is not a URL like http://127.0.0.1:8000")
    return value
