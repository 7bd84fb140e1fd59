"""`penstock pull`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from penstock.cli.repository import RepositoryError, Wanted, choose
from penstock.engine.model import ModelError, load_model
from penstock.engine.tokenizer import load_tokenizer
from penstock.export import ExportError
from penstock.export.config import DecoderConfig
from penstock.export.weights import Checkpoint


@click.command()
@click.argument("repository", metavar="ORG/NAME")
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), help="Folder; NAME otherwise."
)
@click.option("--revision", help="Branch, tag or commit; the main branch otherwise.")
@click.option("--file", help="Which graph, where there are several: onnx/model_q4.onnx.")
def pull(repository: str, to: Path | None, revision: str | None, file: str | None) -> None:
    """Fetch a model from the Hugging Face Hub, or from $HF_ENDPOINT, and check it.

    A connection that drops is resumed, and files that are there are not fetched again. $HF_TOKEN
    opens what is private.
    """
    folder = to or Path(repository.rpartition("/")[2])
    with _told(repository):
        wanted = _fetch(repository, folder, revision, file)
    click.echo(_check(folder, wanted))


def _fetch(repository: str, folder: Path, revision: str | None, file: str | None) -> Wanted:
    """The small files first, and the weights only of what can be served."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    info = HfApi().model_info(repository, revision=revision)
    wanted = choose([each.rfilename for each in info.siblings or ()], file)
    for names in (wanted.small, wanted.large):
        snapshot_download(
            repository, revision=info.sha, local_dir=folder, allow_patterns=list(names)
        )
        if wanted.graph is None:
            DecoderConfig.read(folder)
    return wanted


def _check(folder: Path, wanted: Wanted) -> str:
    """Open what came, as its user would, and say what to do with it."""
    try:
        load_tokenizer(folder)
        if wanted.graph is None:
            Checkpoint.open(folder)
            return (
                f"{folder} is a checkpoint; make a model of it with: "
                f"penstock export {folder} {folder}-onnx"
            )
        load_model(folder / wanted.graph)
    except (ModelError, ExportError) as error:
        raise click.ClickException(f"fetched, but not to be served: {error}") from None
    return f"serve it with: penstock serve --model {folder / wanted.graph}"


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """What goes wrong on the way, in one line."""
    try:
        import huggingface_hub  # noqa: F401
    except ModuleNotFoundError:
        raise click.ClickException(
            "this command needs huggingface_hub; pip install 'penstock[hub]'"
        ) from None
    try:
        yield
    except (RepositoryError, ExportError) as error:
        raise click.ClickException(f"{repository} cannot be served: {error}") from None
    except Exception as error:  # which HTTP library's errors come out differs by version
        said = next((line for line in str(error).splitlines() if line), type(error).__name__)
        raise click.ClickException(
            f"{repository}: {said}; files that are complete are kept"
        ) from None
