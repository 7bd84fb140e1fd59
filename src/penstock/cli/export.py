"""`penstock export`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from penstock.export import Dtype, ExportError, export_model

DTYPES = {"cpu": ("int8row", "int8", "int4", "fp32", "fp16"), "cuda": ("fp16", "bf16")}
"""By device, its default first: on CUDA attention is there in 16 bits, bfloat16 nowhere else."""


@click.command()
@click.argument("source", metavar="HF_DIR", type=click.Path(path_type=Path))
@click.argument("destination", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(get_args(Dtype)),
    help="Precision of the weights: fp16 or bf16 for cuda.  [default: int8row; fp16 for cuda]",
)
@click.option(
    "--device",
    type=click.Choice(list(DTYPES)),
    default="cpu",
    show_default=True,
    help="Where the model will run.",
)
def export(source: Path, destination: Path, dtype: str | None, device: str) -> None:
    """Turn the safetensors checkpoint HF_DIR into a model folder OUT."""
    dtype = dtype or DTYPES[device][0]
    if dtype not in DTYPES[device]:
        known = ", ".join(DTYPES[device])
        raise click.UsageError(f"--device {device} takes --dtype {known}; not {dtype}")
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
