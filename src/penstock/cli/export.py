"""`penstock export`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from penstock.export import Dtype, ExportError, export_model


@click.command()
@click.argument("source", metavar="HF_DIR", type=click.Path(path_type=Path))
@click.argument("destination", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(get_args(Dtype)),
    default="int8row",
    show_default=True,
    help="Precision of the weights.",
)
def export(source: Path, destination: Path, dtype: str) -> None:
    """Turn the safetensors checkpoint HF_DIR into a model folder OUT."""
    click.echo(f"exporting {source} as {dtype} ...", err=True)
    try:
        report = export_model(source, destination, dtype=dtype)  # type: ignore[arg-type]
    except ExportError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        # A write to a full disk names no file.
        raise click.ClickException(
            str(error) if error.filename else f"cannot write {destination}: {error.strerror}"
        ) from None
    click.echo(
        f"{destination}: {report.parameters / 1e6:.1f} M parameters, {report.bytes / 1e6:.1f} MB; "
        f"serve it with: penstock serve --model {destination}"
    )
