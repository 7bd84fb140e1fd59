"""`penstock` and its commands."""

from __future__ import annotations

import click

from penstock import __version__
from penstock.cli.bench import bench
from penstock.cli.chat import chat
from penstock.cli.completion import completion
from penstock.cli.doctor import doctor
from penstock.cli.export import export
from penstock.cli.generate import generate
from penstock.cli.keys import keys
from penstock.cli.models import models
from penstock.cli.pull import pull
from penstock.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="penstock")
def main() -> None:
    """Stream tokens from ONNX models, each at its reader's own pace."""


main.add_command(serve)
main.add_command(generate)
main.add_command(export)
main.add_command(keys)
main.add_command(bench)
main.add_command(models)
main.add_command(chat)
main.add_command(completion)
main.add_command(doctor)
main.add_command(pull)
