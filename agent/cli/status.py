"""`lanesync status`: is everything in sync, yes or no, and why not."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from agent.cli import names
from agent.cli.client import Client, refuse_unknown, running
from agent.cli.options import Duration, output, select, state_dir
from agent.cli.problems import BLOCKED, DONE, PENDING, FailedError, nobody
from agent.cli.text import status_lines
from agent.state.lock import StateLock, StateLockedError

if TYPE_CHECKING:
    from agent.specs.select import Selector

Document = dict[str, Any]
CODES = {"inSync": DONE, "converging": PENDING, "blocked": BLOCKED}
POLL_SECONDS = 0.3


@click.command()
@click.argument("name", metavar="[KIND/NAME]", shell_complete=names.objects, required=False)
@click.option("--watch", is_flag=True, help="Stay and show changes as they happen.")
@click.option("--wait", is_flag=True, help="Return when all is in sync, or blocked.")
@click.option("--timeout", type=Duration(), help="Give up waiting after this long, for example 5m.")
@select
@output
@state_dir
def command(
    name: str | None,
    watch: bool,
    wait: bool,
    timeout: float | None,
    select: Selector,
    output: str,
    state_dir: str,
) -> int:
    """Is everything in sync? One plain answer, then one line per object.

    Exit code: 0 in sync, 3 still converging, 4 blocked and needs a person.

    \b
    Example: lanesync status --wait --timeout 5m
    """
    client = running(state_dir)
    if client is None and (watch or wait):
        raise FailedError(nobody(state_dir, "runs"))
    if watch and client is not None:
        from agent.cli.screen import follow

        return follow(lambda: _chosen(client.get("/api/v1/status"), name, select))
    if wait and client is not None:
        document = _wait(client, timeout, lambda found: _chosen(found, name, select))
    else:
        document = _chosen(_read(client, state_dir), name, select)
    if output == "json":
        click.echo(json.dumps(document, ensure_ascii=True, indent=2))
    else:
        width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
        click.echo("\n".join(status_lines(document, width)))
    return CODES.get(document["state"], PENDING)


def _wait(client: Client, timeout: float | None, choose: Callable[[Document], Document]) -> Document:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        document = client.get("/api/v1/status")
        late = deadline is not None and time.monotonic() > deadline
        try:
            chosen = choose(document)
        except FailedError:
            # An agent that has just begun has not looked at every object yet.
            if late or document["state"] != "converging":
                raise
        else:
            if late or chosen["state"] != "converging":
                return chosen
        time.sleep(POLL_SECONDS)


def _read(client: Client | None, state_dir: str) -> Document:
    if client is not None:
        return client.get("/api/v1/status")
    from agent.state.db import open_state

    refuse_unknown(state_dir)
    try:
        with StateLock(state_dir):
            state = open_state(state_dir)
            try:
                document = state.status.agent()
            finally:
                state.close()
    except StateLockedError:
        client = running(state_dir)  # an agent has just started
        if client is None:
            raise
        return client.get("/api/v1/status")
    if document is None:
        raise FailedError(nobody(state_dir, "has run"))
    return document


def _chosen(document: Document, name: str | None, selector: Selector) -> Document:
    """The part of the document that was asked for, with its own answer."""
    if selector:
        document = _selected(document, selector)
    return _named(document, name)


def _selected(document: Document, selector: Selector) -> Document:
    found = [
        o
        for o in document["objects"]
        if o["kind"] in ("Mapping", "Destination") and selector.matches(o.get("labels", {}))
    ]
    if not found:
        raise FailedError(f"no mapping and no destination has labels with {selector.text}")
    waiting = [o for o in found if not o["ready"] and not _has(o, "Suspended")]
    moving = [o for o in waiting if not _has(o, "Stalled")]
    state = "converging" if moving else "blocked" if waiting else "inSync"
    names = ", ".join(f"{o['kind']}/{o['name']}" for o in waiting[:5])
    message = f"not in sync: {names}" if waiting else f"everything with {selector.text} is in sync"
    return {
        **document,
        "objects": found,
        "inSync": not waiting,
        "state": state,
        "message": message,
        "invalid": {},
    }


def _has(document: Document, condition: str) -> bool:
    return any(c["type"] == condition and c["status"] for c in document["conditions"])


def _named(document: Document, name: str | None) -> Document:
    """One object's part of the document, with its own answer."""
    if name is None:
        return document
    wanted = name.lower()
    found = [o for o in document["objects"] if f"{o['kind']}/{o['name']}".lower() == wanted]
    if not found:
        known = ", ".join(f"{o['kind']}/{o['name']}" for o in document["objects"]) or "none"
        raise FailedError(f"there is no {name}; known: {known}")
    ready = bool(found[0]["ready"])
    stalled = _has(found[0], "Stalled")
    state = "inSync" if ready else "blocked" if stalled else "converging"
    return {**document, "objects": found, "inSync": ready, "state": state, "invalid": {}}
