"""RecvInterface: what this server receives, and from whom."""

from __future__ import annotations

from typing import Any

from agent.jetstream.interface import Interface
from agent.jetstream.structures import ReceiveTransfer, Request, Source


class RecvInterface(Interface):
    """Each method whose name ends in Async answers at once; its twin without Async waits for the result."""

    namespace = "recv"

    def getSourcesAsync(self) -> Request:
        """The sending servers seen; the result is a list of Source structures."""
        return self._request("getSourcesAsync")

    def getSources(self) -> list[Source]:
        found: list[Source] = self._call("getSources")
        return found

    def getTransfersAsync(self) -> Request:
        """What is or was received; the result is a list of Receive Transfer structures."""
        return self._request("getTransfersAsync")

    def getTransfers(self) -> list[ReceiveTransfer]:
        found: list[ReceiveTransfer] = self._call("getTransfers")
        return found

    def addAuthorizedClientAsync(self, clientPublicKey: str | dict[str, Any]) -> Request:
        """Let the server with this public key send to us."""
        return self._request("addAuthorizedClientAsync", clientPublicKey=_public_key(clientPublicKey))

    def addAuthorizedClient(self, clientPublicKey: str | dict[str, Any]) -> None:
        self._call("addAuthorizedClient", clientPublicKey=_public_key(clientPublicKey))

    def removeAuthorizedClientAsync(self, clientPublicKey: str | dict[str, Any]) -> Request:
        return self._request("removeAuthorizedClientAsync", clientPublicKey=_public_key(clientPublicKey))

    def removeAuthorizedClient(self, clientPublicKey: str | dict[str, Any]) -> None:
        self._call("removeAuthorizedClient", clientPublicKey=_public_key(clientPublicKey))

    def allowOnlyAuthorizedClientsAsync(self, onlyAuthorizedClientsAllowed: bool) -> Request:
        return self._request(
            "allowOnlyAuthorizedClientsAsync", onlyAuthorizedClientsAllowed=onlyAuthorizedClientsAllowed
        )

    def allowOnlyAuthorizedClients(self, onlyAuthorizedClientsAllowed: bool) -> None:
        self._call("allowOnlyAuthorizedClients", onlyAuthorizedClientsAllowed=onlyAuthorizedClientsAllowed)

    def _request(self, method: str, **params: Any) -> Request:
        request: Request = self._call(method, **params)
        return request


def _public_key(key: str | dict[str, Any]) -> str:
    if not isinstance(key, dict):
        return key
    for name in ("publicKey", "destinationPublicKey", "clientPublicKey"):
        if isinstance(key.get(name), str):
            return str(key[name])
    raise TypeError("the structure given as clientPublicKey holds no publicKey")
