"""`lanesync events`: what happened to which object."""

from __future__ import annotations

import time
from typing import Any

import click

from agent.cli import names
from agent.cli.client import Client, running
from agent.cli.lines import bounded_note, json_lines, moment
from agent.cli.options import Duration, output, state_dir
from agent.cli.problems import FailedError, nobody
from agent.cli.verbs import tell
from agent.model.printable import printable

Document = dict[str, Any]
POLL_SECONDS = 0.3
PAGE = 1000


@click.command()
@click.argument("name", metavar="[KIND/NAME]", shell_complete=names.objects, default="")
@click.option("--follow", "-f", is_flag=True, help="Stay, and print what happens.")
@click.option("--since", type=Duration(), help="Not older than this, for example 2h.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@output
@state_dir
def command(name: str, follow: bool, since: float | None, limit: int, output: str, state_dir: str) -> int:
    """Changes of conditions, transfers that began and ended, revisions, what is held; newest last.

    What repeats within ten minutes is one event with a count. `--output json` prints one JSON object a line.

    \b
    Example: lanesync events Mapping/dailies --since 2h
    Example: lanesync events --follow
    """
    client = running(state_dir)
    if follow and client is None:
        raise FailedError(nobody(state_dir, "runs"))
    start = 0.0 if since is None else max(0.0, time.time() - since)
    found = tell(
        state_dir,
        "events",
        lambda service: service.events(None, limit, name, start),
        object=name or None,
        limit=limit,
        **{"from": start},
    )
    _print(found["events"], output)
    if follow and client is not None:
        _follow(client, name, found["next"], output)
    bounded_note(len(found["events"]), limit)
    return 0


def _follow(client: Client, name: str, after: int, output: str) -> None:
    """Until Ctrl-C, or until the agent has ended."""
    while True:
        time.sleep(POLL_SECONDS)
        found = client.get("/api/v1/events", since=after, object=name or None, limit=PAGE)
        _print(found["events"], output)
        after = found["next"]


def _print(events: list[Document], output: str) -> None:
    if output == "json":
        json_lines(events)
    for event in events if output == "text" else ():
        click.echo(line(event))


def line(event: Document, *, named: bool = True) -> str:
    """One event for people; `named`: with the object that it is about."""
    times = f" (x{event['count']} since {moment(event['first'])})" if event["count"] > 1 else ""
    mark = "!" if event["type"] == "Warning" else " "
    about = f"{event['key'] or 'agent'}  " if named else ""
    text = f"{moment(event['at'])} {mark} {about}{event['reason']}: {event['message']}"
    return printable(text + times)
