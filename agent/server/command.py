"""The options of `lanesync serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

import agent.loglines  # noqa: F401 - the first that imports structlog does it without what nobody needs
from agent.jetstream.constants import DEFAULT_CHECKPOINT_FREQUENCY_SECONDS
from agent.server import options
from agent.server.errors import StartError
from agent.server.main import run
from agent.server.options import ServeOptions

_PATH = click.Path(path_type=Path)


def default_state_dir() -> Path:
    """systemd's state directory, or one below the XDG state folder."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "lanesync-server"


@click.command("serve")
@click.option("--listen", default=options.DEFAULT_LISTEN, show_default=True, help="HOST:PORT; port 0 = any.")
@click.option("--state-dir", type=_PATH, help="Where the server remembers.  [default: XDG state folder]")
@click.option("--receive-root", type=_PATH, help="Incoming files land below here.  [default: STATE/received]")
@click.option(
    "--reserve",
    help="Free space that receiving leaves there, SIZE or PERCENT.  [default: 1%, 1GiB at most]",
)
@click.option("--accounts", type=_PATH, help="Accounts file, see `lanesync user add`.")
@click.option("--control-token-file", type=_PATH, help="Take commands only with the token in this file.")
@click.option(
    "--checkpoint-seconds",
    type=click.IntRange(0),
    default=DEFAULT_CHECKPOINT_FREQUENCY_SECONDS,
    show_default=True,
    help="Default interval of checkpoints of new destinations.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 16),
    default=options.DEFAULT_STREAMS,
    show_default=True,
    help="Data connections per destination.",
)
@click.option("--address-file", type=_PATH, help="Write address and port to this file when listening.")
@click.option("--ready-fd", type=int, help="Write address and port to this descriptor when listening.")
@click.option("--parent-pipe-fd", type=int, help="End when this descriptor reaches its end.")
@click.option("--lock-fd", type=int, help="Hold this descriptor as long as any process of the server lives.")
@click.option("--allow-remote-control", is_flag=True, help="Take commands from other hosts, too.")
@click.option("--server-name", default="LaneSync", show_default=True, help="Shown to clients.")
@click.option("--external-address", default="", help="HOST:PORT under which others reach this server.")
@click.option(
    "--superuser", "superusers", multiple=True, help="Account that may call superuser(); repeatable."
)
@click.option("--sandbox-dir", help="Directory of each user's files; %u = the user's name.")
@click.option(
    "--min-cipher",
    type=click.IntRange(0, 3),
    help="Least protection of transfers.  [default: 3, 0 on loopback]",
)
@click.option(
    "--authorized-client", "authorized_clients", multiple=True, help="Public key of a sender; repeatable."
)
@click.option("--only-authorized-clients", is_flag=True, help="Receive from authorized senders only.")
@click.option("--recv-relay", default="", help="HOST:PORT of a relay through which this server is reached.")
@click.option("--recv-relay-key", default="", help="The relay's public key.")
@click.option("--trigger-dir", type=_PATH, help="Programs to run on events, named as the event.")
@click.option(
    "--log-transfer-dir", type=_PATH, help="Where transfers with transferLog are logged, one file each."
)
@click.option("--incoming-rate-limit", type=float, help="kbit/s for all that is received.")
@click.option("--outgoing-rate-limit", type=float, help="kbit/s for all that is sent.")
@click.option("--borrow-incoming-rate", is_flag=True, help="Sending may use what receiving leaves.")
@click.option("--borrow-outgoing-rate", is_flag=True, help="Receiving may use what sending leaves.")
@click.option("--api-disable-shared-tokens", "disable_shared_tokens", is_flag=True, help="No shared tokens.")
@click.option("--api-disable-api-tokens", "disable_api_tokens", is_flag=True, help="No API tokens.")
def command(listen: str, state_dir: Path | None, receive_root: Path | None, **given: Any) -> None:
    """Run a transfer server: it sends files to other servers and receives theirs, on one port.

    \b
    Example: lanesync serve --listen 127.0.0.1:8886 --state-dir state --accounts accounts.json
    """
    try:
        host, port = options.parse_listen(listen)
        code = run(
            ServeOptions(
                state_dir=(state_dir or default_state_dir()).absolute(),
                host=host,
                port=port,
                receive_root=None if receive_root is None else receive_root.absolute(),
                **given,
            )
        )
    except StartError as error:
        click.echo(f"lanesync serve: {error}", err=True)
        sys.exit(1)
    sys.exit(code)
