"""SendInterface: destinations, manifests and transfers of the sending side."""

from __future__ import annotations

from typing import Any

from agent.jetstream.interface import object_id
from agent.jetstream.senddestinations import DestinationMethods
from agent.jetstream.sendmanifests import ManifestMethods
from agent.jetstream.sendtransfers import TransferMethods
from agent.jetstream.serverinterface import request_result, request_status
from agent.jetstream.structures import Id, RequestStatus


class SendInterface(DestinationMethods, ManifestMethods, TransferMethods):
    """Each method whose name ends in Async answers at once; its twin without Async waits for the result.

    All raise CommandError when the server refuses.
    """

    def updateObjectUserData(self, objId: Id, key: str, value: str | None = None) -> None:
        """Set one piece of user data of a destination, manifest, transfer or shared token."""
        self._call("updateObjectUserData", objId=object_id(objId, "objId"), key=key, value=value)

    def deleteObjectUserData(self, objId: Id, key: str) -> None:
        self._call("deleteObjectUserData", objId=object_id(objId, "objId"), key=key)

    def getRequestStatus(self, requestId: Id) -> RequestStatus:
        """The same as ServerInterface's."""
        return request_status(self._api, requestId)

    def getRequestResult(self, requestId: Id) -> Any:
        """The same as ServerInterface's."""
        return request_result(self._api, requestId)
