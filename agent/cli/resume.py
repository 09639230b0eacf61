"""`lanesync resume`: end a local suspension."""

from __future__ import annotations

import click

from agent.cli import names
from agent.cli.options import state_dir
from agent.cli.verbs import ask, asking, author, said


@click.command()
@click.argument("name", metavar="KIND/NAME", shell_complete=names.objects)
@asking
@state_dir
def command(name: str, as_: str, wait: bool, timeout: float | None, state_dir: str) -> int:
    """End what `lanesync suspend` began; transfers go on from where they were.

    \b
    Example: lanesync resume Mapping/dailies
    """
    body = {"name": name, "author": as_ or author()}
    found, code = ask(state_dir, "resume", body, wait=wait, timeout=timeout)
    said(f"resumed {found['resumed']}", found)
    return code
