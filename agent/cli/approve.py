"""`lanesync approve`: let through what is held and waits for a person."""

from __future__ import annotations

import click

from agent.cli import names
from agent.cli.options import state_dir
from agent.cli.verbs import ask, asking, author, said


@click.command()
@click.argument("name", metavar="KIND/NAME|revision", shell_complete=names.objects)
@asking
@state_dir
def command(name: str, as_: str, wait: bool, timeout: float | None, state_dir: str) -> int:
    """Approve the deletions held for a mapping, or `revision`: a revision that removes most objects.

    What is approved is the set that is held now; a later, different one is held again.

    \b
    Example: lanesync approve Mapping/dailies
    """
    body = {"name": name, "author": as_ or author()}
    found, code = ask(state_dir, "approve", body, wait=wait, timeout=timeout)
    sets = len(found["approved"])
    said(f"approved {sets} held set{'s' if sets != 1 else ''} of {name}", found)
    return code
