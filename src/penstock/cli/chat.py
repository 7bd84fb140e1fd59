"""`penstock chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.kinds import Number
from penstock.cli.server import connected, server_options

if TYPE_CHECKING:
    from penstock.client.blocking import Client

try:
    import readline
except ImportError:  # Windows has a line editor of its own
    readline = None  # type: ignore[assignment]

PROMPT = "> "
WINDOW = 8
"""Events that may be made ahead of a terminal that has stopped."""

_UNPRINTABLE = dict.fromkeys({*range(32), *range(127, 160)} - {9, 10})
"""A model's text must not move the cursor or give the terminal commands."""


@click.command()
@server_options
@click.option("--model", help="Which of the server's models; the first one otherwise.")
@click.option("--system", help="What the model is told ahead of the conversation.")
@click.option("--max-tokens", type=click.IntRange(1), help="Tokens of one answer.")
@click.option("--temperature", type=Number(0, 2), help="0 takes the likeliest token.")
def chat(url: str, api_key: str | None, system: str | None, **given: object) -> None:
    """Talk to the server at URL.

    Ctrl-C stops an answer, or drops the line that is being typed; at the empty prompt it leaves, as
    Ctrl-D does.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    messages = [{"role": "system", "content": system}] if system else []
    with connected(url, api_key) as client:
        while (line := _read_line()) is not None:
            if line.strip():
                _take_turn(client, messages, line, fields)


def _read_line() -> str | None:
    """None is a wish to leave."""
    try:
        return input(PROMPT if sys.stdin.isatty() else "")
    except EOFError:
        _end_line()
        return None
    except KeyboardInterrupt:
        _end_line()
        return "" if readline is not None and readline.get_line_buffer() else None


def _take_turn(
    client: Client, messages: list[dict[str, str]], line: str, fields: dict[str, Any]
) -> None:
    """A question that was refused is not part of the conversation."""
    from penstock.client import ServerError

    asked = [*messages, {"role": "user", "content": line}]
    said: list[str] = []
    try:
        _show(client, asked, said, fields)
    except ServerError as error:
        click.echo(f"\nError: {error}", err=True)
    if said:
        messages[:] = [*asked, {"role": "assistant", "content": "".join(said)}]


def _show(
    client: Client, messages: list[dict[str, str]], said: list[str], fields: dict[str, Any]
) -> None:
    """Print the answer, and keep in `said` what was printed."""
    try:
        with client.stream(messages=messages, window=WINDOW, **fields) as tokens:
            for token in tokens:
                click.echo(token.translate(_UNPRINTABLE), nl=False)
                said.append(token)
        click.echo(" [cut off at --max-tokens]" if tokens.finish_reason == "length" else "")
    except KeyboardInterrupt:
        click.echo(" [stopped]")


def _end_line() -> None:
    if sys.stdin.isatty():
        click.echo()
