"""`recv.*`: what this server receives, as far as it remembers since its launch."""

from __future__ import annotations

from typing import Any

from agent.server.errors import not_supported
from agent.server.params import Anything, Boolean
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

    @command("recv.addAuthorizedClient", twin=True)
    async def add_client(self, session: Session, clientPublicKey: Anything = None) -> None:
        raise not_supported("addAuthorizedClient (authorised sender keys)")

    @command("recv.removeAuthorizedClient", twin=True)
    async def remove_client(self, session: Session, clientPublicKey: Anything = None) -> None:
        raise not_supported("removeAuthorizedClient (authorised sender keys)")

    @command("recv.allowOnlyAuthorizedClients", twin=True)
    async def only_clients(
        self, session: Session, onlyAuthorizedClientsAllowed: Boolean | None = None
    ) -> None:
        raise not_supported("allowOnlyAuthorizedClients (authorised sender keys)")
