"""`lanesync history`: the audit trail."""

from __future__ import annotations

import time
from typing import Any

import click

from agent.cli import names
from agent.cli.lines import bounded_note, json_lines, moment
from agent.cli.options import Duration, output, state_dir
from agent.cli.verbs import tell
from agent.model.printable import printable
from agent.model.units import format_duration, format_size

Document = dict[str, Any]


@click.command()
@click.argument("name", metavar="[KIND/NAME]", shell_complete=names.objects, default="")
@click.option("--path", default="", help="Only what was done to this file, or below this directory.")
@click.option("--files", is_flag=True, help="A line for each file instead of one for each act.")
@click.option("--since", type=Duration(), help="Not older than this, for example 2h.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@output
@state_dir
def command(
    name: str, path: str, files: bool, since: float | None, limit: int, output: str, state_dir: str
) -> int:
    """What was done, oldest first: deliveries, deletions, changes at servers, and what people asked for.

    `--output json` prints one JSON object a line. PATH may be a path at the source or at the destination.
    How much is kept is set with options of `run`.

    \b
    Example: lanesync history Mapping/dailies --since 2h
    Example: lanesync history --path /paris/dailies/a.mov --output json
    """
    start = 0.0 if since is None else max(0.0, time.time() - since)
    found = tell(
        state_dir,
        "history",
        lambda service: service.history(name, path, start, limit, files=files),
        object=name or None,
        path=path or None,
        files="1" if files else None,
        limit=limit,
        **{"from": start},
    )["entries"]
    if output == "json":
        json_lines(found)
        return 0
    for entry in found:
        click.echo(line(entry))
    bounded_note(len(found), limit)
    return 0


def line(entry: Document, *, named: bool = True) -> str:
    """One act, or one file, for people; `named`: with the object that it is about."""
    about = (entry["object"] or "agent") if named else ""
    if entry["destination"]:
        about += f" -> {entry['destination']}"
    about = f" {about.strip()}:" if about else ""
    return printable(f"{moment(entry['time'])}  {entry['action']:<9}{about} {_what(entry)}")


def _what(entry: Document) -> str:
    parts = []
    if entry["path"]:
        parts.append(entry["path"])
    elif entry["attempt"] is not None:
        from agent.planning.words import count

        parts.append(count(entry["files"], "file"))
    if entry["bytes"]:
        parts.append(format_size(entry["bytes"]))
    if entry["failed"] and not entry["path"]:
        parts.append(f"{entry['failed']:,} failed")
    if entry["duration"] is not None:
        parts.append(format_duration(round(entry["duration"], 1)))
    if entry["reason"]:
        parts.append(entry["reason"])
    if entry["outcome"] not in (None, "complete", "done", "cancelled"):
        parts.append(entry["outcome"])
    if entry["error"]:
        parts.append(entry["error"])
    if entry["who"] != "agent":
        parts.append(f"by {entry['who']}")
    return ", ".join(parts) or "done"
