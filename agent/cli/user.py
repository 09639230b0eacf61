"""`lanesync user add NAME --accounts FILE`: accounts of a transfer server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

PASSWORD_VARIABLE = "LANESYNC_USER_PASSWORD"  # noqa: S105 - the name of a variable


@click.group("user")
def command() -> None:
    """Manage the accounts of a transfer server."""


@command.command("add")
@click.argument("name")
@click.option("--accounts", type=click.Path(path_type=Path), required=True, help="The accounts file.")
def add(name: str, accounts: Path) -> None:
    """Add account NAME, or change its password.

    The password comes from $LANESYNC_USER_PASSWORD, or is asked for. The file is made if needed; a running
    server sees the change at the next login.
    """
    from agent.server import accounts as store

    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        is_new = store.add(accounts, name, password)
    except (store.AccountsError, OSError) as error:
        click.echo(f"lanesync user: {error}", err=True)
        sys.exit(1)
    click.echo(f"account {name} {'added' if is_new else 'changed'}")
