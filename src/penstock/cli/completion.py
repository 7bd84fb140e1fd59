"""`penstock completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete penstock's commands and options.

    \b
    bash: eval "$(penstock completion bash)"          in ~/.bashrc
    zsh:  eval "$(penstock completion zsh)"           in ~/.zshrc
    fish: penstock completion fish | source           in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root().command
    click.echo(kind(root, {}, "penstock", "_PENSTOCK_COMPLETE").source())
