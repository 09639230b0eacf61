"""`lanesync reconcile`: look at an object, or at everything, now."""

from __future__ import annotations

import click

from agent.cli import names
from agent.cli.options import state_dir
from agent.cli.verbs import ask, asking, author


@click.command()
@click.argument("name", metavar="[KIND/NAME]", shell_complete=names.objects, default="")
@asking
@state_dir
def command(name: str, as_: str, wait: bool, timeout: float | None, state_dir: str) -> int:
    """Have the running agent look now; without a name at everything, and at the specs.

    A suspended object is not looked at: exit code 4.

    \b
    Example: lanesync reconcile Mapping/dailies --wait
    """
    body = {"name": name, "author": as_ or author()}
    found, code = ask(state_dir, "reconcile", body, wait=wait, timeout=timeout)
    for key in found["enqueued"]:
        click.echo(f"enqueued {key} (request {found['request']})")
    return code
