"""`lanesync keygen --state-dir DIR`: a server's key, made ahead, shown or replaced."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime
from pathlib import Path

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 3650 * 86400


def _period(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int:
    """`7d`, `12h`, `30m`, `90s` -> seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", value)
    seconds = int(found[1]) * _UNITS[found[2]] if found else -1
    if not 0 <= seconds <= _LONGEST:
        raise click.BadParameter(f"{value!r} is not a period; write for example 7d or 12h, ten years at most")
    return seconds


@click.command("keygen")
@click.option("--state-dir", type=click.Path(path_type=Path), required=True, help="Of the server.")
@click.option("--show", is_flag=True, help="Print the public key, and change nothing.")
@click.option("--rotate", is_flag=True, help="Replace the key. A running server uses the new one at once.")
@click.option(
    "--keep", callback=_period, default="7d", show_default=True, help="How long the old key stays good."
)
def command(state_dir: Path, show: bool, rotate: bool, keep: int) -> None:
    """Make the key by which others recognise a transfer server, and print its public half.

    A server without a key makes one when it starts. The public key is what goes into destinationPublicKey of
    those who send to this server, and into --authorized-client or recv.addAuthorizedClient of those who
    receive from it.

    After --rotate both keys are good until the time that is printed: give the new one to all of them by then.

    \b
    Example: lanesync keygen --state-dir /var/lib/lanesync
    """
    from agent.server import identity
    from agent.server.errors import StartError

    if show and rotate:
        raise click.UsageError("give --show or --rotate, not both")
    now = time.time()
    try:
        if rotate:
            identity.rotate(state_dir, identity.own_names(), keep, now)
        elif not show:
            identity.ensure(state_dir, identity.own_names(), now)
        valid = identity.Identities(state_dir).valid(now)
    except StartError as error:
        click.echo(f"lanesync keygen: {error}", err=True)
        sys.exit(1)
    click.echo(valid[0].public_key)
    for old in valid[1:]:
        until = datetime.fromtimestamp(old.until or 0).astimezone().isoformat(timespec="seconds")
        click.echo(f"{old.public_key} is good until {until}", err=True)
