"""`penstock models`."""

from __future__ import annotations

import click

from penstock.cli.server import connected, server_options


@click.command()
@server_options
def models(url: str, api_key: str | None) -> None:
    """List the models of the server at URL; the first is for requests that name none."""
    with connected(url, api_key) as client:
        for model in client.models():
            click.echo(model["id"])
