"""`lanesync approve`: let through what is held and waits for a person."""

from __future__ import annotations

import click

from agent.cli.options import state_dir
from agent.cli.verbs import author, call


@click.command()
@click.argument("name", metavar="KIND/NAME|revision")
@state_dir
def command(name: str, state_dir: str) -> int:
    """Approve the deletions held for a mapping, or `revision`: a revision that removes most objects.

    What is approved is the set that is held now; a later, different one is held again.

    \b
    Example: lanesync approve Mapping/dailies
    """
    approved = call(state_dir, "approve", {"name": name, "author": author()})["approved"]
    click.echo(f"approved {len(approved)} held set{'s' if len(approved) != 1 else ''} of {name}")
    return 0
