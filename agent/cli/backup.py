"""`lanesync backup DIR`: a copy of the agent's memory, also while it runs."""

from __future__ import annotations

import os

import click

from agent.cli.options import state_dir
from agent.cli.problems import DONE
from agent.model.units import format_size
from agent.planning.words import count
from agent.state.backup import back_up


@click.command()
@click.argument("directory", type=click.Path())
@state_dir
def command(directory: str, state_dir: str) -> int:
    """Copy the state directory to DIRECTORY, which must not exist yet. The agent may run meanwhile.

    It holds what the agent and its servers know, with their keys and tokens: keep it as safe as the original.
    Received files and logs are not in it. To restore, stop the agent, move its state directory away and put
    the copy in its place; received files below it are moved back by hand. What was delivered since is looked
    at and, where that is needed, sent again.

    \b
    Example: lanesync backup /srv/backups/lanesync-monday
    """
    copied = back_up(state_dir, os.path.abspath(directory))
    click.echo(f"{count(copied.files, 'file')}, {format_size(copied.bytes)}: {directory}")
    return DONE
