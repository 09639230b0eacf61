"""`lanesync relay`: a meeting point for servers that cannot be reached from outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from agent.server.errors import StartError
from agent.server.relay import options

_PATH = click.Path(path_type=Path)


def _default_state_dir() -> Path:
    """systemd's state directory, or one below the XDG state folder."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "lanesync-relay"


@click.command("relay")
@click.option("--listen", default=options.DEFAULT_LISTEN, show_default=True, help="HOST:PORT; port 0 = any.")
@click.option("--state-dir", type=_PATH, help="Where the relay's key is.  [default: XDG state folder]")
@click.option(
    "--accept-key", "accepted", multiple=True, help="Public key of a receiver that may register; repeatable."
)
@click.option("--address-file", type=_PATH, help="Write address and port to this file when listening.")
@click.option("--ready-fd", type=int, help="Write address and port to this descriptor when listening.")
def command(
    listen: str,
    state_dir: Path | None,
    accepted: tuple[str, ...],
    address_file: Path | None,
    ready_fd: int | None,
) -> None:
    """Run a relay: receivers connect out to it, and senders reach them through it.

    Start the receiver with `lanesync serve --recv-relay HOST:PORT`; name the relay at the sender with
    relayAddress and relayPort of the destination. What is passed on is encrypted from end to end.

    \b
    Example: lanesync relay --listen 0.0.0.0:8887 --state-dir /var/lib/lanesync-relay
    """
    from agent.server.relay.main import run

    try:
        host, port = options.parse_listen(listen)
        code = run(
            options.RelayOptions(
                state_dir=(state_dir or _default_state_dir()).absolute(),
                host=host,
                port=port,
                accepted=options.parse_keys(accepted),
                address_file=address_file,
                ready_fd=ready_fd,
            )
        )
    except StartError as error:
        click.echo(f"lanesync relay: {error}", err=True)
        sys.exit(1)
    sys.exit(code)
