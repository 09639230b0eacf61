"""`lanesync explain`: everything about one path."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from typing import Any

import click

from agent.cli.lines import moment
from agent.cli.options import output, state_dir
from agent.cli.verbs import tell
from agent.model.printable import printable
from agent.model.units import format_size

Document = dict[str, Any]


@click.command()
@click.argument("path", type=click.Path())
@output
@state_dir
def command(path: str, output: str, state_dir: str) -> int:
    """Whose a path is, what became of it, and what happens next. A path at the source or at a destination,
    which need not exist yet; what does not begin with / and is a file here is taken as that file.

    \b
    Example: lanesync explain /mnt/raid/dailies/a.mov
    """
    if not path.startswith("/") and os.path.lexists(path):
        path = os.path.abspath(path)
    found = tell(state_dir, "explain", lambda service: service.explain(path), path=path)
    if output == "json":
        click.echo(json.dumps(found, ensure_ascii=True, indent=2))
        return 0
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    click.echo("\n".join(lines(found, width)))
    return 0


def lines(found: Document, width: int) -> list[str]:
    told = [printable(found["path"])]
    if found["message"]:
        return [*told, *textwrap.wrap(printable(found["message"]), width, break_on_hyphens=False)]
    for place in found["mappings"]:
        told += ["", *_place(place, width)]
    return told


def _place(place: Document, width: int) -> list[str]:
    told = _said(f"Mapping/{place['mapping']}", place["from"] or "", width)
    told += _said("  source", f"{place['source']} ({_source(place['inSource'])})", width)
    if place["whyNot"]:
        told += _said("  not sent", place["whyNot"], width)
    if place["settling"]:
        until = f", until {moment(place['settling']['until'])}" if place["settling"]["until"] else ""
        told += _said("  settling", place["settling"]["reason"] + until, width)
    for delivery in place["deliveries"]:
        told += _delivery(place, delivery, width)
    return told


def _source(version: Document | None) -> str:
    if version is None:
        return "not there"
    if version["kind"] == "unreadable":
        return f"cannot be read: {version['error']}"
    if "size" not in version:
        return {"directory": "a directory", "symlink": "a symbolic link"}.get(version["kind"], "no file")
    size = f", {format_size(version['size'])}" if version["kind"] == "file" else ""
    return f"{version['kind']}{size}, changed {moment(version['mtime'])}"


def _delivery(place: Document, delivery: Document, width: int) -> list[str]:
    told = _said(f"  at {delivery['destination']}", place["destinationPath"], width)
    row = delivery["delivered"]
    if row is None:
        told += _said("    delivered", "no", width)
    else:
        origin = "" if row["origin"] == "delivered" else f" ({row['origin']})"
        digest = f", digest {row['digest']}" if row["digest"] else ""
        text = f"{moment(row['at'])}{origin}, {format_size(row['size'])}{digest}, attempt {row['attempt']}"
        told += _said("    delivered", text, width)
    if delivery["differs"]:
        told += _said("    since then", delivery["differs"], width)
    if delivery["atDestination"]:
        there = delivery["atDestination"]
        told += _said("    found there", f"{moment(there['at'])}: {there['what']}, {there['detail']}", width)
    if delivery["inFlight"]:
        told += _said("    in flight", _in_flight(delivery["inFlight"]), width)
    if delivery["lastError"]:
        error = delivery["lastError"]
        told += _said("    last error", f"{moment(error['at'])}: {error['error']}", width)
    when = f", at {moment(delivery['nextAt'])}" if delivery["nextAt"] else ""
    return told + _said("    next", delivery["next"] + when, width)


def _in_flight(flight: Document) -> str:
    verb = "being deleted" if flight["deleting"] else "being sent"
    text = f"{verb} by attempt {flight['attempt']}"
    if (transfer := flight["transfer"]) is not None:
        done, total = format_size(transfer["doneBytes"]), format_size(transfer["totalBytes"])
        text += (
            f"; transfer {transfer['id']} is {transfer['state']}, {done} of {total}, lane {transfer['lane']}"
        )
    return text


def _said(name: str, text: str, width: int) -> list[str]:
    """A name and what belongs to it; a long path stays whole, so that it can be copied."""
    head = f"{name:<15}  "
    body = textwrap.wrap(
        printable(text),
        max(20, width - len(head)),
        break_on_hyphens=False,
        break_long_words=False,
    )
    first, *rest = body or [""]
    return [(head + first).rstrip(), *(" " * len(head) + line for line in rest)]
