"""`lanesync resume`: end a local suspension."""

from __future__ import annotations

import click

from agent.cli.options import state_dir
from agent.cli.verbs import call


@click.command()
@click.argument("name", metavar="KIND/NAME")
@state_dir
def command(name: str, state_dir: str) -> int:
    """End what `lanesync suspend` began; transfers go on from where they were.

    \b
    Example: lanesync resume Mapping/dailies
    """
    click.echo(f"resumed {call(state_dir, 'resume', {'name': name})['resumed']}")
    return 0
