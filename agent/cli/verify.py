"""`lanesync verify`: is everything at the destinations as it was delivered?"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from agent.cli import logs, names
from agent.cli.client import Client, refuse_unknown, running
from agent.cli.options import output, policy, state_dir
from agent.cli.problems import DONE, FAILED, PENDING, FailedError, nobody
from agent.cli.verbs import POLL_SECONDS
from agent.model.printable import printable
from agent.planning.drift import counts_text
from agent.planning.words import count
from agent.reconcile.agent import Agent, Options
from agent.reconcile.verifying import verify_alone

Document = dict[str, Any]


@click.command()
@click.argument("mappings", metavar="[MAPPING]...", nargs=-1, shell_complete=names.mappings)
@click.option(
    "--checksum", is_flag=True, help="Compare contents, too: every file is read at the destination."
)
@policy
@output
@state_dir
def command(mappings: tuple[str, ...], checksum: bool, policy: str, output: str, state_dir: str) -> int:
    """Compare what is at the destinations with what was delivered; without a name, of all mappings.

    Exit codes: 0 the same, 1 somewhere nobody could look, 3 something differs, or could not be verified. What
    becomes of differences is said by `drift.policy` of each mapping. Beside a running agent it asks that one;
    without, it takes the state directory and starts the servers for a moment.

    \b
    Example: lanesync verify dailies --checksum
    """
    logs.configure("error")
    client, progress = running(state_dir), Progress()
    if client is not None:
        found = _ask(client, mappings, checksum, progress)
    else:
        found = _alone(state_dir, policy, mappings, checksum, progress)
    progress.clear()
    if output == "json":
        click.echo(json.dumps(found, ensure_ascii=True, indent=2))
    else:
        click.echo("\n".join(lines(found)))
    return code(found)


def _ask(client: Client, mappings: tuple[str, ...], checksum: bool, progress: Progress) -> Document:
    request = client.post("/api/v1/verify", {"names": list(mappings), "checksum": checksum})["request"]
    while True:
        found = client.get(f"/api/v1/verifications/{request}")
        if found["over"]:
            return found
        progress.show(found)
        time.sleep(POLL_SECONDS)


def _alone(
    state_dir: str, policy: str, mappings: tuple[str, ...], checksum: bool, progress: Progress
) -> Document:
    refuse_unknown(state_dir)
    agent = Agent(Options((), state_dir, watch=False, policy=policy))
    try:
        agent.context.desired = agent.last_applied()
        if not agent.context.desired.mappings:
            raise FailedError(nobody(state_dir, "has run"))
        return verify_alone(agent, mappings, checksum, progress.show)
    finally:
        agent.stop()


class Progress:
    """One line that changes, on a terminal only."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = 0

    def show(self, found: Document) -> None:
        if not self._terminal:
            return
        over = sum(one["state"] in ("done", "failed") for one in found["deliveries"])
        now = next((one for one in found["deliveries"] if one["state"] == "looking"), None)
        where = f", {now['mapping']} at {now['destination']}" if now else ""
        seen = f": {count(now['progress']['seen'], 'path')}" if now and now["progress"] else ""
        text = printable(f"{over} of {len(found['deliveries'])}{where}{seen}")
        click.echo(f"\r{text:<{self._shown}}", nl=False, err=True)
        self._shown = len(text)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r" + " " * self._shown + "\r", nl=False, err=True)


def lines(found: Document) -> list[str]:
    """A line for each delivery, with the paths that differ below it."""
    said: list[str] = []
    for one in found["deliveries"]:
        place = f"{one['mapping']} at {one['destination']}"
        if one["state"] == "failed":
            said.append(printable(f"{place}: could not be looked at: {one['error']}"))
            continue
        result = one["found"]
        said.append(f"{place}: {summary(result)}")
        for named in result["paths"]:
            detail = f" ({named['detail']})" if named["detail"] else ""
            said.append(printable(f"  {named['what']}: {named['path']}{detail}"))
        hidden = differing(result) + result["unverified"] - len(result["paths"])
        if hidden > 0:
            said.append(f"  and {hidden:,} more")
    return said or ["there are no mappings"]


def summary(result: Document) -> str:
    contents = f", contents of {result['verified']:,}" if result["checksum"] else ""
    checked = f"{count(result['checked'], 'path')} compared{contents}"
    verdict = [
        counts_text(result["missing"], result["changed"], result["damaged"], 0)
        if differing(result)
        else "all as delivered"
    ]
    if result["unverified"]:
        verdict.append(f"{result['unverified']:,} could not be verified")
    if result["corrected"]:
        verdict.append(f"{result['corrected']:,} to be sent again")
    if result["foreign"]:
        verdict.append(f"{result['foreign']:,} not from here")
    return f"{checked}; {', '.join(verdict)}"


def differing(result: Document) -> int:
    return int(result["missing"] + result["changed"] + result["damaged"])


def code(found: Document) -> int:
    if any(one["state"] == "failed" for one in found["deliveries"]):
        return FAILED
    results = [one["found"] for one in found["deliveries"]]
    return PENDING if any(differing(r) or r["unverified"] for r in results) else DONE
