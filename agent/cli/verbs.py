"""What the small verbs share: asking the running agent, or working on its state when none runs."""

from __future__ import annotations

import getpass
from typing import Any

from agent.cli.client import running
from agent.cli.problems import FailedError
from agent.reconcile.agent import Agent, Options
from agent.reconcile.service import AgentService

Document = dict[str, Any]


def author() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def call(state_dir: str, verb: str, body: Document) -> Document:
    """Ask the agent that runs on this state directory; without one, do it under the state lock."""
    client = running(state_dir)
    if client is not None:
        return client.post(f"/api/v1/{verb}", body)
    agent = Agent(Options((), state_dir, watch=False))
    try:
        agent.context.desired = agent.last_applied()
        if not agent.context.desired.all_keys():
            raise FailedError(f"no agent has run on {state_dir}; start one with `lanesync run`")
        service = AgentService(agent)
        if verb == "suspend":
            return service.suspend(body["name"], body["reason"], body["author"], body["seconds"])
        if verb == "resume":
            return service.resume(body["name"])
        if verb == "approve":
            return service.approve(body["name"], body["author"])
        raise FailedError(f"{verb} needs a running agent; start one with `lanesync run`")
    finally:
        agent.stop()
