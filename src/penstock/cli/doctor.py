"""`penstock doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.cli.checks import CHECKS, Finding
from penstock.cli.options import collect, settings_options


@click.command()
@settings_options()
@click.pass_context
def doctor(context: click.Context, /, config: Path | None, **given: object) -> None:
    """Check this machine, and what `penstock serve` would find with the same options.

    Exits with 1 where the server would not start.
    """
    settings = collect(given, config)
    fatal = False
    for name, check in CHECKS.items():
        for finding in check(settings):
            click.echo(_line(name, finding))
            fatal |= finding.fatal
    context.exit(int(fatal))


def _line(name: str, finding: Finding) -> str:
    mark = "FAIL" if finding.fatal else "look" if finding.advice else "ok"
    advice = f"\n{'':17}-> {finding.advice}" if finding.advice else ""
    return f"{mark:5}{name:10}  {finding.what}{advice}"
