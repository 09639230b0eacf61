"""`recv.*`: what this server receives, as far as it remembers since its launch."""

from __future__ import annotations

from typing import Any

from agent.server.core import Core
from agent.server.receiving import Receiver
from agent.server.registry import command
from agent.server.session import Session


class RecvMethods:
    def __init__(self, core: Core, receiver: Receiver) -> None:
        self._core = core
        self._receiver = receiver

    @command("recv.getTransfers", twin=True)
    async def get_transfers(self, session: Session) -> list[dict[str, Any]]:
        return self._receiver.receptions.transfers(session.scope, self._core.clock.wall_us())

    @command("recv.getSources", twin=True)
    async def get_sources(self, session: Session) -> list[dict[str, Any]]:
        return self._receiver.receptions.sources(session.scope, self._core.clock.wall_us())
