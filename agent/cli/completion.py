"""`lanesync completion SHELL`: what has a shell complete verbs, options, kinds and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from agent.cli.problems import FailedError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print what SHELL needs to complete verbs, options, files, and the names of objects.

    \b
    Example: lanesync completion bash > ~/.local/share/bash-completion/completions/lanesync
    Example: lanesync completion zsh > ~/.zfunc/_lanesync     (a directory of $fpath)
    Example: lanesync completion fish > ~/.config/fish/completions/lanesync.fish

    Names are those that the agent of the state directory has applied; --state-dir before them says which.
    """
    from agent.cli.main import lanesync

    found = get_completion_class(shell)
    if found is None:
        raise FailedError(f"this version of click cannot complete in {shell}")
    click.echo(found(lanesync, {}, "lanesync", "_LANESYNC_COMPLETE").source())
