"""`lanesync user …`: accounts of a transfer server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from agent.cli.problems import FailedError

PASSWORD_VARIABLE = "LANESYNC_USER_PASSWORD"  # noqa: S105 - the name of a variable
_MAX_PASSWORD_FILE = 8192
_FILE = click.Path(path_type=Path)
F = TypeVar("F", bound=Callable[..., None])


@click.group("user")
def command() -> None:
    """Manage the accounts of a transfer server.

    A running server sees changes at the next login; who is logged in loses that at the next call when the
    account is removed or its password changed.

    \b
    Example: lanesync user add ingest --accounts /etc/lanesync/accounts.json
    """


def _accounts(function: F) -> F:
    return click.option("--accounts", type=_FILE, required=True, help="The accounts file.")(function)


def _password(function: F) -> F:
    text = f"File whose first line is the password; without it ${PASSWORD_VARIABLE}, or a prompt."
    return click.option("--password-file", type=_FILE, help=text)(function)


@command.command("add")
@click.argument("name")
@_accounts
@_password
@click.option("--superuser/--no-superuser", default=None, help="Whether it may call superuser().")
def add(name: str, accounts: Path, password_file: Path | None, superuser: bool | None) -> None:
    """Add account NAME, or change its password. The file is made if needed."""
    from agent.server import accounts as store

    with _problems():
        is_new = store.add(accounts, name, _read_password(password_file), superuser=superuser)
    click.echo(f"account {name} {'added' if is_new else 'changed'}")


@command.command("passwd")
@click.argument("name")
@_accounts
@_password
def passwd(name: str, accounts: Path, password_file: Path | None) -> None:
    """Change the password of account NAME."""
    from agent.server import accounts as store

    with _problems():
        store.change_password(accounts, name, _read_password(password_file))
    click.echo(f"password of {name} changed")


@command.command("list")
@_accounts
def list_accounts(accounts: Path) -> None:
    """Print the names of all accounts, and who is a superuser."""
    from agent.server import accounts as store

    with _problems():
        found = store.read(accounts)
    for name in sorted(found):
        click.echo(f"{name}  superuser" if found[name].superuser else name)


@command.command("rm")
@click.argument("name")
@_accounts
def rm(name: str, accounts: Path) -> None:
    """Remove account NAME. What it made on a server stays, for superusers to see to."""
    from agent.server import accounts as store

    with _problems():
        store.remove(accounts, name)
    click.echo(f"account {name} removed")


def _read_password(file: Path | None) -> str:
    """The new password; what is short is warned of, for only the server's slowing of logins guards it."""
    from agent.server.passwords import SHORT

    if file is not None:
        with file.open("rb") as opened:
            lines = opened.read(_MAX_PASSWORD_FILE).decode("utf-8", "surrogateescape").splitlines()
        password = lines[0] if lines else ""
    else:
        password = os.environ.get(PASSWORD_VARIABLE) or _asked()
    if len(password) < SHORT:
        click.echo(f"warning: the password has fewer than {SHORT} characters and is easily guessed", err=True)
    return password


def _asked() -> str:
    try:
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    except click.Abort:
        if sys.stdin.isatty():
            raise
        text = f"there is nobody to ask for the password; give --password-file FILE, or ${PASSWORD_VARIABLE}"
        raise FailedError(text) from None


@contextmanager
def _problems() -> Iterator[None]:
    from agent.server.accounts import AccountsError

    try:
        yield
    except (AccountsError, OSError) as error:
        click.echo(f"lanesync user: {error}", err=True)
        sys.exit(1)
