"""`lanesync describe`: everything about one object."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import click

from agent.cli import events, history, names
from agent.cli.get import where, yaml_text
from agent.cli.lines import moment
from agent.cli.options import output, state_dir
from agent.cli.text import answer_of, entry, transfer_lines
from agent.cli.verbs import tell
from agent.model.printable import printable
from agent.model.units import format_duration, format_rate, format_size

Document = dict[str, Any]
SUMMARY = 30
"""Lines of a spec that are shown; all of it with `get`."""


@click.command()
@click.argument("name", metavar="KIND/NAME", shell_complete=names.objects)
@output
@state_dir
def command(name: str, output: str, state_dir: str) -> int:
    """Everything about one object: spec, conditions and since when, deliveries, windows, suspension, events.

    \b
    Example: lanesync describe Mapping/dailies
    """
    found = tell(state_dir, f"objects/{name}", lambda service: service.describe(name))
    if output == "json":
        click.echo(json.dumps(found, ensure_ascii=True, indent=2))
        return 0
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    click.echo("\n".join(lines(found, width)))
    return 0


def lines(found: Document, width: int) -> list[str]:
    status, spec = found["status"], found["spec"]
    head = answer_of(status) if status else "not looked at yet"
    told = [
        *entry(found["object"], head, width, whole=True),
        *entry("from", printable(where(spec)), width, whole=True),
        "",
    ]
    told += _section("Spec", _spec_lines(found["set"]))
    told += _section("Conditions", _conditions(status, width))
    told += _section("Suspended", _suspension(found["suspension"], width))
    told += _section("Deliveries", _deliveries(status))
    told += _section("Looks", list(_looks(status)))
    told += _section("Windows", list(_windows(found["windows"])))
    told += _section("Uses", found["uses"])
    told += _section("Used by", found["usedBy"])
    approved = [f"{a['digest']} by {a['who']}, {moment(a['at'])}" for a in found["approvals"]]
    told += _section("Approved, not carried out yet", approved)
    told += _section("Last events", _wrapped((events.line(e, named=False) for e in found["events"]), width))
    told += _section("Last acts", _wrapped((history.line(e, named=False) for e in found["history"]), width))
    return told[:-1]


def _section(title: str, body: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in body), ""] if body else []


def _wrapped(lines: Iterable[str], width: int) -> list[str]:
    """What is too long goes on below, further in."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, width - 4, subsequent_indent="          ", break_on_hyphens=False)
    ]


def _spec_lines(said: Document) -> list[str]:
    body = yaml_text(said).splitlines() if said else []
    return body[:SUMMARY] + (["... (all of it: lanesync get --output yaml)"] if len(body) > SUMMARY else [])


def _conditions(status: Document | None, width: int) -> list[str]:
    told: list[str] = []
    before = ""
    for c in status["conditions"] if status else ():
        state = "" if c["status"] else " no"
        message = f": {c['message']}" if c["message"] and c["message"] != before else ""
        before = c["message"]
        text = f"{c['reason']} since {moment(c['since'])}{message}"
        told += entry(f"{c['type']}{state}", printable(text), width - 2, whole=True)
    return told


def _suspension(suspension: Document | None, width: int) -> list[str]:
    if suspension is None:
        return []
    told = ["by its spec"] if suspension["inSpec"] else []
    local = suspension["local"]
    if local is not None:
        until = f"until {moment(local['until'])}" if local["until"] else "until it is resumed"
        reason = local["reason"] or "no reason given"
        text = f"{local['author']}, since {moment(local['since'])}, {until}: {reason}"
        told += entry("by", printable(text), width - 2, whole=True)
    return told


def _deliveries(status: Document | None) -> list[str]:
    told: list[str] = []
    for d in (status or {}).get("deliveries", ()):
        from agent.planning.words import count

        told.append(f"{d['destination']}: {count(d['files'], 'file')} there, {format_size(d['bytes'])}")
        moving = (("filesInFlight", "on their way"), ("deletionsInFlight", "being deleted"))
        rest = (("settling", "being written"), ("heldDeletions", "deletions held"))
        told += [f"  {d[name]:,} {text}" for name, text in (*moving, *rest) if d.get(name)]
        if d.get("failuresInARow"):
            told.append(printable(f"  failed {d['failuresInARow']} times in a row: {d['lastError']}"))
        told += [f"  {line}" for line in transfer_lines({"deliveries": [d]})]
    return told


def _looks(status: Document | None) -> Iterator[str]:
    """How often everything is compared, whatever is told meanwhile."""
    looks = (status or {}).get("looks") or {}
    for place in ("source", "destination"):
        if looks.get(place):
            yield f"{place}: every {format_duration(float(round(looks[place])))}"


def _windows(windows: list[Document]) -> Iterator[str]:
    for window in windows:
        rate = window["sendRateMax"]
        now = "paused" if window["pause"] else f"at most {format_rate(rate)}" if rate else "no window is open"
        until = f", until {moment(window['until'])}" if window["until"] else ""
        yield f"{window['destination']}: {now}{until}"
