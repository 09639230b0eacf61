"""`lanesync retry`: forget the pause after failures, and try what failed now."""

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
    """Forget how often an object has failed, and try now. Of a destination or a server: also the mappings
    that use it.

    \b
    Example: lanesync retry Mapping/dailies
    """
    body = {"name": name, "author": as_ or author()}
    found, code = ask(state_dir, "retry", body, wait=wait, timeout=timeout)
    said(f"trying {name} again", found)
    return code
