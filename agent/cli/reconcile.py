"""`lanesync reconcile`: look at an object, or at everything, now."""

from __future__ import annotations

import click

from agent.cli.options import state_dir
from agent.cli.verbs import call


@click.command()
@click.argument("name", metavar="[KIND/NAME]", default="")
@state_dir
def command(name: str, state_dir: str) -> int:
    """Have the running agent look now; without a name at everything, and at the specs.

    \b
    Example: lanesync reconcile Mapping/dailies
    """
    for key in call(state_dir, "reconcile", {"name": name})["enqueued"]:
        click.echo(f"enqueued {key}")
    return 0
