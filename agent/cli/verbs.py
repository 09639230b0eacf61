"""What the small verbs share: asking the running agent, or working on its state when none runs."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.cli.client import Client, refuse_unknown, running
from agent.cli.options import Duration
from agent.cli.problems import PENDING, FailedError, nobody

if TYPE_CHECKING:
    from agent.reconcile.service import AgentService

Document = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

POLL_SECONDS = 0.1
_ALONE = ("suspend", "resume", "approve", "retry")


def author() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def asking(function: F) -> F:
    """Options of verbs that ask for something: `as_`, `wait`, `timeout`."""
    for option in (
        click.option(
            "--timeout", type=Duration(), help="With --wait: give up after this long (exit code 3)."
        ),
        click.option("--wait", is_flag=True, help="Return when it has been acted on."),
        click.option("--as", "as_", metavar="NAME", default="", help="Who asks. Default: this user."),
    ):
        function = option(function)
    return function


@contextmanager
def alone(state_dir: str) -> Iterator[AgentService]:
    """The service of an agent that does not run, under the state lock: what it last knew, no server asked."""
    from agent.reconcile.agent import Agent, Options
    from agent.reconcile.service import AgentService

    refuse_unknown(state_dir)
    agent = Agent(Options((), state_dir, watch=False))
    try:
        agent.context.desired = agent.last_applied()
        if not agent.context.desired.all_keys():
            raise FailedError(nobody(state_dir, "has run"))
        yield AgentService(agent)
    finally:
        agent.stop()


def tell(state_dir: str, route: str, answer: Callable[[AgentService], Document], /, **query: Any) -> Document:
    """Ask the agent that runs; without one, answer from its state."""
    client = running(state_dir)
    if client is not None:
        return client.get(f"/api/v1/{route}", **query)
    with alone(state_dir) as service:
        return answer(service)


def call(state_dir: str, verb: str, body: Document) -> Document:
    """Ask the agent that runs on this state directory; without one, do it under the state lock."""
    client = running(state_dir)
    if client is not None:
        return client.post(f"/api/v1/{verb}", body)
    if verb not in _ALONE:
        raise FailedError(f"{verb} needs a running agent; start one with `lanesync run`")
    with alone(state_dir) as service:
        found: Document = getattr(service, verb)(**body)
        return {**found, "request": None, "enqueued": []}


def ask(
    state_dir: str, verb: str, body: Document, *, wait: bool, timeout: float | None
) -> tuple[Document, int]:
    """`call`, and with `wait` until every object concerned has acted on it. (answer, exit code)"""
    client = running(state_dir)
    if wait and client is None:
        raise FailedError(f"no agent runs on {state_dir}, so nothing acts on it; leave out --wait")
    found = call(state_dir, verb, body)
    if not wait or client is None or not found["request"]:
        return found, 0
    return found, wait_for(client, found["request"], timeout)


def wait_for(client: Client, request: str, timeout: float | None) -> int:
    """Until every object that the request is for has acted on it (0), or for so long (3)."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        state = client.get(f"/api/v1/requests/{request}")
        if state["handled"]:
            return 0
        if deadline is not None and time.monotonic() > deadline:
            click.echo(f"not acted on yet: {', '.join(state['pending'][:5])}", err=True)
            return PENDING
        time.sleep(POLL_SECONDS)


def said(text: str, found: Document) -> None:
    """The result, with the request's id where an agent runs that will echo it."""
    click.echo(f"{text} (request {found['request']})" if found["request"] else text)
