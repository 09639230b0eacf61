"""`lanesync plan`: what would be done, without doing it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import click

from agent.cli import logs
from agent.cli.client import Client, running
from agent.cli.gitoptions import checked_out, spec_source
from agent.cli.options import output, policy, select, state_dir
from agent.cli.problems import DONE, PENDING, FailedError, InvalidSpecsError
from agent.planning.words import count
from agent.reconcile.agent import Agent, Options
from agent.reconcile.planned import MAX_LIMIT, planned
from agent.reconcile.resting import resting
from agent.specs.git.checkout import Checkout
from agent.specs.git.options import GitOptions
from agent.specs.load import Loaded, load
from agent.specs.policy import load_policy
from agent.specs.select import Selector

Document = dict[str, Any]
FORMAT = 1
SHOWN_REASONS = 50
"""Paths of each list when reasons are asked for and no limit is."""


@click.command()
@spec_source
@click.option("--exit-code", is_flag=True, help="Exit with 3 when the plan is not empty.")
@click.option("--out", type=click.Path(dir_okay=False, writable=True), help="Save the plan for `apply`.")
@click.option("--reasons", is_flag=True, help="Say of each path that is shown why it is sent.")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), help="Show so many paths of each list.")
@policy
@select
@output
@state_dir
def command(
    paths: tuple[str, ...],
    git: GitOptions | None,
    exit_code: bool,
    out: str | None,
    reasons: bool,
    limit: int | None,
    policy: str,
    select: Selector,
    output: str,
    state_dir: str,
) -> int:
    """Show what would be created, changed, sent and deleted. Nothing is changed by asking.

    Beside a running agent it asks that one; without, it takes the state directory for a moment. How long
    sending takes is a range: the link alone, and the link with all that is queued for the destination.

    \b
    Example: lanesync plan specs --exit-code
    Example: lanesync plan specs --reasons --limit 100
    Example: lanesync plan --git https://git.example.org/site.git --ref main
    """
    logs.configure("warning")
    if git is not None and out is not None:
        raise click.UsageError("a plan of --git cannot be saved; check the commit out, and plan that")
    with checked_out(git) as checkout:
        paths = (checkout.specs,) if checkout is not None else paths
        options = Options(paths, state_dir, watch=False, policy=policy, select=select)
        read(options, checkout)
        client = running(state_dir)
        detail = Detail(limit or (SHOWN_REASONS if reasons else 0), reasons)
        document = ask(client, options, detail) if client is not None else look(options, detail, checkout)
    if out is not None:
        save(document, options, out)
    if output == "json":
        click.echo(json.dumps(document, ensure_ascii=True, indent=2))
    else:
        click.echo("\n".join(plan_text(document)))
    return PENDING if exit_code and not document["empty"] else DONE


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of a plan is told."""

    limit: int = 0  # paths of each list; 0 = the usual few
    reasons: bool = False


def read(options: Options, checkout: Checkout | None = None) -> None:
    """Refuse what is invalid, and what the policy does not allow; warn of what has no effect."""
    policy = load_policy(options.policy, options.paths) if options.policy else None
    loaded = load(list(options.paths), policy, options.select, checkout)
    refuse_invalid(loaded)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)


def refuse_invalid(loaded: Loaded) -> None:
    """People who run a verb by hand get the whole set or nothing."""
    if loaded.desired is None:
        for error in loaded.errors:
            click.echo(str(error))
        errors = count(len(loaded.errors) + loaded.omitted, "error")
        raise InvalidSpecsError(f"the specs are invalid ({errors}); nothing was done")


def ask(client: Client, options: Options, detail: Detail = Detail()) -> Document:
    """The plan of the agent that runs, which selects what it was started with."""
    if options.select:
        theirs = client.get("/api/v1/status")["agent"].get("select")
        if theirs != options.select.text:
            runs = f"--select {theirs}" if theirs else "without --select"
            raise FailedError(f"the agent that runs on this state directory was started {runs}")
    body = {"paths": list(options.paths), "limit": detail.limit, "reasons": detail.reasons}
    return client.post("/api/v1/plan", body)


def look(options: Options, detail: Detail = Detail(), checkout: Checkout | None = None) -> Document:
    """The plan without a running agent, under the state lock."""
    agent = Agent(options)
    try:
        return plan_of(agent, detail, checkout)
    finally:
        agent.stop()


def plan_of(agent: Agent, detail: Detail = Detail(), checkout: Checkout | None = None) -> Document:
    with agent.preparing_plan(checkout) as loaded:
        refuse_invalid(loaded)
        still = resting(agent.context, loaded.valid)
    return planned(agent, loaded.valid, detail.limit, detail.reasons, still)


def stale(saved: Document, now: Document) -> str:
    """What has moved on since a plan was saved; empty while it is still the plan."""
    moved = []
    if saved["revision"] != now["revision"]:
        moved.append(f"the specs (they were {saved['revision']}, they are {now['revision']})")
    if saved["digest"] != now["digest"]:
        if saved.get("ledger") != now["ledger"]:
            moved.append("what has been delivered")
        if saved.get("source") != now["source"]:
            moved.append("the source")
        moved = moved or ["what the servers report"]
    return " and ".join(moved)


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
