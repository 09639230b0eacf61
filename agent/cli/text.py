"""The status document as plain lines: fits 80 columns, needs no colour, reads the same when piped."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from agent.model.printable import printable
from agent.model.units import format_duration, format_size

Document = Mapping[str, Any]

MARKS = {"ready": "✓", "busy": "↻", "stalled": "✗", "suspended": "‖"}
NAMED = 10
SHORT_COMMIT = len("git:") + 12


def answer(document: Document) -> str:
    """The plain answer."""
    words = {"inSync": "in sync", "converging": "not in sync yet", "blocked": "not in sync, needs you"}
    text = words.get(str(document["state"]), str(document["state"]))
    if not document["inSync"]:
        return f"{text}: {printable(document['message'])}"
    suspended = sum(mark(thing) == "suspended" for thing in document["objects"])
    drifted = sum(_is(thing, "Drifted") for thing in document["objects"])
    besides = [(suspended, "suspended"), (drifted, "changed at a destination")]
    said = ", ".join(f"{number} {words}" for number, words in besides if number)
    return f"{text} ({said})" if said else text


def _is(thing: Document, condition: str) -> bool:
    return any(c["type"] == condition and c["status"] for c in thing["conditions"])


def mark(thing: Document) -> str:
    conditions = {c["type"] for c in thing["conditions"] if c["status"]}
    if "Suspended" in conditions:
        return "suspended"
    if "Stalled" in conditions:
        return "stalled"
    return "ready" if "Ready" in conditions else "busy"


def why(thing: Document) -> str:
    """What an object has to say: the message of the condition that matters."""
    conditions = {c["type"]: c for c in thing["conditions"]}
    for kind in ("Suspended", "Stalled", "Ready"):
        if kind in conditions and (kind == "Ready" or conditions[kind]["status"]):
            found = conditions[kind]
            return printable(found["message"] or found["reason"])
    return ""


def answer_of(thing: Document) -> str:
    """One object's plain answer."""
    words = {"ready": "in sync", "busy": "not in sync yet", "stalled": "needs you", "suspended": "suspended"}
    text = why(thing)
    return words[mark(thing)] + (f", {text}" if text else "")


def status_lines(document: Document, width: int = 80) -> list[str]:
    lines = [*textwrap.wrap(answer(document), width, subsequent_indent="  ", break_on_hyphens=False), ""]
    names = [f"{thing['kind']}/{thing['name']}" for thing in document["objects"]]
    column = min(max((len(name) for name in names), default=0), width // 2)
    for name, thing in zip(names, document["objects"], strict=True):
        lines += entry(
            f"{MARKS[mark(thing)]} {name:<{column}}", why(thing), width, whole=mark(thing) != "ready"
        )
        lines += [cut(f"    {line}", width) for line in transfer_lines(thing)]
        for note in notes(thing):
            lines += entry("    !", printable(note["message"]), width, whole=True)
    for name, errors in document.get("invalid", {}).items():
        lines += ["", f"invalid: {printable(name)}", *(f"  {printable(error)}" for error in errors[:NAMED])]
    lines += ["", *revision_lines(document, width)]
    if not document["agent"].get("running"):
        lines.append("no agent is running; this is what the last one knew")
    return lines


def revision_lines(document: Document, width: int) -> list[str]:
    """What is applied and what was read last; of a repository with the commit's subject and its troubles."""
    revision, source = document["revision"], document.get("source", {})
    commits = {f"git:{c['commit']}": c for name in ("applied", "inForce") if (c := source.get(name))}

    def shown(identity: str) -> str:
        commit = commits.get(identity)
        return f"{identity[:SHORT_COMMIT]}  {printable(commit['subject'])}" if commit else identity

    lines = [cut(f"revision {shown(revision['applied']) or 'none yet'}", width)]
    if revision["attempted"] and revision["attempted"] != revision["applied"]:
        lines.append(cut(f"attempted {shown(revision['attempted'])}", width))
    if source.get("type") != "git":
        return lines
    ago = ""
    if source["lastFetch"]:
        ago = f", fetched {format_duration(max(0.0, document['time'] - source['lastFetch']))} ago"
    lines.append(cut(f"from {printable(source['ref'])} of {printable(source['url'])}{ago}", width))
    for condition in source["conditions"]:
        if condition["type"] == "Ready" and not condition["status"] and source["lastError"]:
            lines += entry("!", printable(condition["message"]), width, whole=True)
    return lines


def entry(name: str, text: str, width: int, *, whole: bool) -> list[str]:
    """One object. What is wrong is told to the end; that all is well needs one line."""
    if not whole:
        return [cut(f"{name}  {text}", width)]
    room = max(20, width - len(name) - 2)
    first, *rest = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return [f"{name}  {first}".rstrip(), *(" " * (len(name) + 2) + line for line in rest)]


def notes(thing: Document) -> list[Document]:
    shown = ("WatchDegraded", "Limited", "Drifted")
    return [c for c in thing["conditions"] if c["type"] in shown and c["status"]]


def transfer_lines(thing: Document) -> list[str]:
    found = []
    for delivery in thing.get("deliveries", ()):
        for transfer in delivery["transfers"][:NAMED]:
            done, total = transfer["doneBytes"], transfer["totalBytes"]
            share = done / total if total else 0.0
            state = "" if transfer["state"] == "sending" else f", {transfer['state']}"
            found.append(
                f"{bar(share, 16)} {share:4.0%}  {format_size(done)} of {format_size(total)}"
                f"  lane {transfer['lane']}, priority {transfer['priority']}{state}"
            )
    return found


def bar(share: float, width: int) -> str:
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def delivered_lines(document: Document) -> list[str]:
    """What this run delivered and deleted: the end of `--once` and `apply`."""
    lines = []
    for entry in [e for e in document["delivered"] if e["files"] or e["deleted"]]:
        head = f"{entry['mapping']} → {entry['destination']}:"
        lines.append(f"{head} {entry['files']} delivered ({format_size(entry['bytes'])})")
        if entry["deleted"]:
            lines[-1] += f", {entry['deleted']} deleted"
        lines += [f"    {printable(path)}" for path in entry["paths"][:NAMED]]
        more = entry["files"] - min(len(entry["paths"]), NAMED)
        if more > 0:
            lines.append(f"    … and {more} more")
    return lines or ["nothing had to be delivered" if document["inSync"] else "nothing was delivered yet"]
