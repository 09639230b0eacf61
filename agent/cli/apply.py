"""`lanesync apply`: carry out what the specs (or a saved plan) say, then exit."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import click

from agent.cli import logs
from agent.cli.client import Client, running
from agent.cli.options import Duration, output, policy, select, state_dir
from agent.cli.plan import FORMAT, ask, plan_of, plan_text, read, refuse_invalid, stale
from agent.cli.problems import PENDING, FailedError
from agent.cli.run import Runner
from agent.cli.status import CODES, POLL_SECONDS
from agent.cli.text import answer, delivered_lines
from agent.cli.verbs import author, wait_for
from agent.reconcile.agent import REVISION_KEY, Agent, Options
from agent.specs.select import Selector, parse

Document = dict[str, Any]
MAX_PLAN = 64 << 20


@click.command()
@click.argument("paths", metavar="PATH...|PLAN", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--timeout", type=Duration(), help="Give up after this long (exit code 3).")
@click.option("--log-level", type=click.Choice(list(logs.LEVELS)), default="warning", show_default=True)
@policy
@select
@output
@state_dir
def command(
    paths: tuple[str, ...],
    yes: bool,
    timeout: float | None,
    log_level: str,
    policy: str,
    select: Selector,
    output: str,
    state_dir: str,
) -> int:
    """Reconcile until everything is in sync (0) or blocked (4), then exit.

    PLAN is what `lanesync plan --out` wrote; it is refused when specs, source or what has been delivered
    moved on since.

    \b
    Example: lanesync apply specs --yes
    """
    logs.configure(log_level)
    saved = _saved_plan(paths)
    specs = tuple(os.path.abspath(p) for p in (saved["specs"] if saved else paths))
    if saved is not None:  # the plan is that of this selection, within this policy
        select = parse(saved["select"]) if saved.get("select") else select
        policy = policy or str(saved.get("policy") or "")
    options = Options(specs, state_dir, watch=False, policy=policy, select=select)
    read(options)
    client = running(state_dir)
    if client is not None:
        _agree(ask(client, options), saved, yes)
        return _follow(client, specs, timeout, output)
    agent = Agent(options)
    try:
        revision = _agreed_revision(agent, saved, yes)
        # The person has seen what this revision removes, or said yes to whatever it is.
        agent.context.state.approvals.add(REVISION_KEY, revision, "apply", time.time())
        agent.start()
        return Runner(agent, once=True, timeout=timeout, output=output).run()
    finally:
        agent.stop()


def _saved_plan(paths: tuple[str, ...]) -> Document | None:
    """The content of a plan file; None when the paths are specs."""
    if len(paths) != 1 or os.path.isdir(paths[0]) or paths[0].endswith((".yaml", ".yml")):
        return None
    try:
        with open(paths[0], encoding="ascii") as file:
            document = json.loads(file.read(MAX_PLAN))
    except (OSError, ValueError) as error:
        raise FailedError(f"{paths[0]} is neither specs (*.yaml) nor a saved plan: {error}") from error
    if not isinstance(document, dict) or document.get("lanesyncPlan") != FORMAT:
        raise FailedError(
            f"{paths[0]} is not a plan that this version can read; make it again with `plan --out`"
        )
    return document


def _agreed_revision(agent: Agent, saved: Document | None, yes: bool) -> str:
    """What may be carried out. Nobody waits for a plan that nobody is shown: the sources are walked once."""
    if yes and saved is None:
        with agent.preparing_plan() as loaded:
            refuse_invalid(loaded)
        return loaded.valid.revision
    document = plan_of(agent)
    _agree(document, saved, yes)
    return str(document["revision"])


def _agree(document: Document, saved: Document | None, yes: bool) -> None:
    """Show the plan and have it agreed to; a saved plan must still be the plan."""
    if saved is not None:
        if moved := stale(saved["plan"], document):
            raise FailedError(f"the saved plan is stale: {moved} moved on since; plan again")
        return
    if document["empty"] or yes:
        return
    click.echo("\n".join(plan_text(document)), err=True)
    if not sys.stdin.isatty():
        raise click.UsageError("this would change things; say --yes, or apply a saved plan")
    if not click.confirm("Carry this out?", err=True):
        raise FailedError("not agreed to; nothing was done")


def _follow(client: Client, specs: tuple[str, ...], timeout: float | None, output: str) -> int:
    """Beside a running agent: it does the work, we wait. What it says is the answer once it has looked at
    everything."""
    deadline = None if timeout is None else time.monotonic() + timeout
    asked = client.post("/api/v1/apply", {"paths": list(specs), "author": author()})
    wait_for(client, asked["request"], timeout)
    while True:
        document = client.get("/api/v1/status")
        late = deadline is not None and time.monotonic() > deadline
        if document["state"] != "converging" or late:
            break
        time.sleep(POLL_SECONDS)
    if output == "json":
        click.echo(json.dumps(document, ensure_ascii=True, indent=2))
    else:
        click.echo("\n".join([*delivered_lines(document), answer(document)]))
    return CODES.get(document["state"], PENDING)
