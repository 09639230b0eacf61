"""`lanesync token`: the token of a share, to hand on."""

from __future__ import annotations

import json

import click

from agent.cli import names
from agent.cli.client import running
from agent.cli.options import output, state_dir
from agent.cli.problems import FailedError


@click.command()
@click.argument("name", metavar="NAME", shell_complete=names.shares)
@output
@state_dir
def command(name: str, output: str, state_dir: str) -> int:
    """Print the token of a share: whoever has it (and its password) can download what it shares.

    It is shown here alone, to who may read the state directory; never in status, logs or events.

    \b
    Example: lanesync token grading
    """
    client = running(state_dir)
    if client is None:
        raise FailedError("the server that keeps the token runs with the agent; start it with `lanesync run`")
    found = client.post("/api/v1/token", {"name": name.removeprefix("Share/")})
    click.echo(json.dumps(found, indent=2) if output == "json" else found["token"])
    return 0
