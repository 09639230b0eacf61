"""`lanesync plan`: what would be done, without doing it."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from agent.cli import logs
from agent.cli.client import Client, running
from agent.cli.options import output, policy, select, specs, state_dir
from agent.cli.problems import DONE, PENDING, FailedError, InvalidSpecsError
from agent.planning.describe import plan_document
from agent.planning.words import count
from agent.reconcile.agent import Agent, Options
from agent.reconcile.preview import plan_digest, preview
from agent.specs.load import Loaded, load
from agent.specs.policy import load_policy
from agent.specs.select import Selector

Document = dict[str, Any]
FORMAT = 1


@click.command()
@specs
@click.option("--exit-code", is_flag=True, help="Exit with 3 when the plan is not empty.")
@click.option("--out", type=click.Path(dir_okay=False, writable=True), help="Save the plan for `apply`.")
@policy
@select
@output
@state_dir
def command(
    paths: tuple[str, ...],
    exit_code: bool,
    out: str | None,
    policy: str,
    select: Selector,
    output: str,
    state_dir: str,
) -> int:
    """Show what would be created, changed, sent and deleted. Nothing is changed by asking.

    Beside a running agent it asks that one; without, it takes the state directory for a moment.

    \b
    Example: lanesync plan specs --exit-code
    """
    logs.configure("warning")
    options = Options(paths, state_dir, watch=False, policy=policy, select=select)
    read(options)
    client = running(state_dir)
    document = ask(client, options) if client is not None else look(options)
    if out is not None:
        save(document, options, out)
    if output == "json":
        click.echo(json.dumps(document, ensure_ascii=True, indent=2))
    else:
        click.echo("\n".join(plan_text(document)))
    return PENDING if exit_code and not document["empty"] else DONE


def read(options: Options) -> None:
    """Refuse what is invalid, and what the policy does not allow."""
    policy = load_policy(options.policy, options.paths) if options.policy else None
    refuse_invalid(load(list(options.paths), policy, options.select))


def refuse_invalid(loaded: Loaded) -> None:
    """People who run a verb by hand get the whole set or nothing."""
    if loaded.desired is None:
        for error in loaded.errors:
            click.echo(str(error))
        errors = count(len(loaded.errors) + loaded.omitted, "error")
        raise InvalidSpecsError(f"the specs are invalid ({errors}); nothing was done")


def ask(client: Client, options: Options) -> Document:
    """The plan of the agent that runs, which selects what it was started with."""
    if options.select:
        theirs = client.get("/api/v1/status")["agent"].get("select")
        if theirs != options.select.text:
            runs = f"--select {theirs}" if theirs else "without --select"
            raise FailedError(f"the agent that runs on this state directory was started {runs}")
    return client.post("/api/v1/plan", {"paths": list(options.paths)})


def look(options: Options) -> Document:
    """The plan without a running agent, under the state lock."""
    agent = Agent(options)
    try:
        return plan_of(agent)
    finally:
        agent.stop()


def plan_of(agent: Agent) -> Document:
    loaded = agent.prepare_plan()
    refuse_invalid(loaded)
    plan = preview(agent.context, loaded.valid)
    return {**plan_document(plan), "revision": loaded.revision, "digest": plan_digest(plan)}


def plan_text(document: Document) -> list[str]:
    return [*document["lines"], *([""] if document["lines"] else []), document["summary"]]


def save(document: Document, options: Options, out: str) -> None:
    """Atomically, so that a half-written plan is never applied."""
    saved = {
        "lanesyncPlan": FORMAT,
        "specs": list(options.paths),
        "select": options.select.text,
        "policy": options.policy,
        "plan": document,
    }
    temporary = f"{out}.{os.getpid()}.new"
    with open(temporary, "w", encoding="ascii") as file:
        json.dump(saved, file, ensure_ascii=True, indent=2)
        file.write("\n")
    os.replace(temporary, out)
