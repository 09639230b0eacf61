"""What a running agent does when asked through its socket or its HTTP face."""

from __future__ import annotations

import os

from agent.model.outcome import LaneSyncError
from agent.model.spec import DesiredState
from agent.reconcile.agent import Agent
from agent.reconcile.asked import Asked
from agent.reconcile.document import Document
from agent.reconcile.measures import LaneBytes, Measures, lane_bytes, measure
from agent.reconcile.planned import planned
from agent.reconcile.shares import token_of
from agent.reconcile.telling import Telling
from agent.reconcile.verifying import Verifying
from agent.specs.load import Loaded


class InvalidError(LaneSyncError):
    """The specs that were handed in are invalid."""


class AgentService(Asked, Telling, Verifying):
    """Asked to do something, to tell something, to plan, to apply."""

    def __init__(self, agent: Agent) -> None:
        Asked.__init__(self, agent)
        Telling.__init__(self, agent)
        Verifying.__init__(self, agent)
        self._agent = agent

    @property
    def ready(self) -> bool:
        return self._agent.ready

    def stuck(self) -> dict[str, str]:
        """Threads that hang, by name; empty when all is well."""
        return self._agent.stuck()

    def share_token(self, name: str) -> Document:
        """The token of a share, for whoever may command the agent."""
        return dict(token_of(self._agent.context, name))

    def status(self) -> Document:
        return self._agent.status()

    def plan(self, paths: list[str], limit: int = 0, reasons: bool = False) -> Document:
        """The plan of the specs at `paths` (empty: those in force), with so many paths of each list."""
        desired = self._agent.context.desired
        if paths:
            desired = self._valid(self._agent.load([os.path.abspath(path) for path in paths]))
        return planned(self._agent, desired, limit, reasons)

    def apply(self, paths: list[str], author: str) -> Document:
        """Reconcile all now; only the specs that this agent runs."""
        git = self._agent.options.git
        if git is not None:
            raise LaneSyncError(
                f"the agent with pid {os.getpid()} runs {git}; push to it, or use another --state-dir"
            )
        mine = [os.path.abspath(path) for path in self._agent.options.paths]
        if [os.path.abspath(path) for path in paths] != mine:
            raise LaneSyncError(
                f"the agent with pid {os.getpid()} runs {', '.join(mine)}; change those specs, "
                "or stop it, or use another --state-dir"
            )
        return self.reconcile("", author)

    def measure(self) -> Measures:
        return measure(self._agent)

    def lanes(self, most: int) -> list[LaneBytes]:
        """What each lane of the first destinations has sent."""
        return list(lane_bytes(self._agent.context, most))

    def look_for_specs(self) -> None:
        """Soon, from another thread: the push hook only says that there may be something."""
        self._agent.reload_soon()

    @staticmethod
    def _valid(loaded: Loaded) -> DesiredState:
        if loaded.desired is None:
            raise InvalidError("the specs are invalid; run `lanesync validate`")
        return loaded.desired
