"""`recv.*`: what this server receives, as far as it remembers since its launch."""

# ruff: noqa: ARG002 - every method takes the session and its documented parameters

from __future__ import annotations

from typing import Any

from agent.server.errors import not_supported
from agent.server.params import Anything, Boolean
from agent.server.receiving import Receiver
from agent.server.registry import command
from agent.server.session import Session

_COUNTS = {"complete": "completeTransferCount", "error": "errorTransferCount"}


class RecvMethods:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @command("recv.getTransfers", twin=True)
    async def get_transfers(self, session: Session) -> list[dict[str, Any]]:
        return list(self._receiver.transfers.values())

    @command("recv.getSources", twin=True)
    async def get_sources(self, session: Session) -> list[dict[str, Any]]:
        sources: dict[str, dict[str, Any]] = {}
        for transfer in self._receiver.transfers.values():
            address = str(transfer["sourceIP"])
            source = sources.setdefault(address, _source(address))
            source[_COUNTS.get(transfer["status"], "activeTransferCount")] += 1
            source["sourcePort"] = transfer["sourcePort"]
            if transfer["status"] == "receiving":
                source["encryptedConnectionState"] = "connected"
        return list(sources.values())

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


def _source(address: str) -> dict[str, Any]:
    return {
        "sourceIP": address,
        "sourcePort": None,
        "activeTransferCount": 0,
        "inactiveTransferCount": 0,
        "completeTransferCount": 0,
        "errorTransferCount": 0,
        "aveRecvRate": None,
        "aveRecvRateWindow": None,
        "destinationPublicKey": None,
        "encryptedConnectionState": "disconnected",
        "encryptionEnabled": False,
    }
