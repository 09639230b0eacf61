"""`lanesync suspend`: stop working on a mapping or destination for a while."""

from __future__ import annotations

import click

from agent.cli import names
from agent.cli.options import Duration, state_dir
from agent.cli.verbs import ask, asking, author, said


@click.command()
@click.argument("name", metavar="KIND/NAME", shell_complete=names.objects)
@click.option("--reason", default="", help="Why; shown in status.")
@click.option("--for", "seconds", type=Duration(), help="End by itself after this long, for example 2h.")
@asking
@state_dir
def command(
    name: str, reason: str, seconds: float | None, as_: str, wait: bool, timeout: float | None, state_dir: str
) -> int:
    """Suspend an object on this machine; its spec in git stays as it is. Running transfers are suspended.

    \b
    Example: lanesync suspend Mapping/dailies --reason "disk swap" --for 2h
    """
    body = {"name": name, "reason": reason, "author": as_ or author(), "seconds": seconds}
    found, code = ask(state_dir, "suspend", body, wait=wait, timeout=timeout)
    said(f"suspended {found['suspended']}", found)
    return code
