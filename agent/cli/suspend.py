"""`lanesync suspend`: stop working on a mapping or destination for a while."""

from __future__ import annotations

import click

from agent.cli.options import Duration, state_dir
from agent.cli.verbs import author, call


@click.command()
@click.argument("name", metavar="KIND/NAME")
@click.option("--reason", default="", help="Why; shown in status.")
@click.option("--for", "seconds", type=Duration(), help="End by itself after this long, for example 2h.")
@state_dir
def command(name: str, reason: str, seconds: float | None, state_dir: str) -> int:
    """Suspend an object on this machine; its spec in git stays as it is. Running transfers are suspended.

    \b
    Example: lanesync suspend Mapping/dailies --reason "disk swap" --for 2h
    """
    body = {"name": name, "reason": reason, "author": author(), "seconds": seconds}
    click.echo(f"suspended {call(state_dir, 'suspend', body)['suspended']}")
    return 0
