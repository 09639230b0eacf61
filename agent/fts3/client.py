"""The typed client: one context, and what can be done with it."""

from __future__ import annotations

from types import TracebackType

from agent.fts3.bans import Bans
from agent.fts3.config import Config
from agent.fts3.context import Context
from agent.fts3.delegation import Delegation
from agent.fts3.jobs import Jobs
from agent.fts3.storage import Storage
from agent.fts3.structures import EndpointInfo, WhoAmI


class Client:
    """For use from several threads; also a context manager that closes the connections."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.jobs = Jobs(context)
        self.delegation = Delegation(context)
        self.bans = Bans(context)
        self.config = Config(context)
        self.storage = Storage(context)

    def endpoint_info(self) -> EndpointInfo:
        """Versions of the service; asked once. BadEndpoint when it is none."""
        return EndpointInfo.read(self.context.get_endpoint_info())

    def whoami(self) -> WhoAmI:
        """How the service sees us now."""
        return self.delegation.whoami()

    def close(self) -> None:
        self.context.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
