"""SendInterface, the part about transfers."""

from __future__ import annotations

from typing import Any

from agent.jetstream.interface import Interface, object_id
from agent.jetstream.structures import Id, Request, Transfer


def _transfer(value: Id | None) -> Any:
    return object_id(value, "transferId")


class TransferMethods(Interface):
    """Rates are kbit/s. Every method raises NotFoundError when the transfer does not exist."""

    namespace = "send"

    def createTransfer(
        self,
        destinationId: Id,
        manifestId: Id,
        destinationPath: str | None = None,
        userName: str | None = None,
        password: str | None = None,
        priority: int | None = None,
        transferFlags: int | None = None,
        checkpointFrequencySeconds: int | None = None,
        sendRateMax: float | None = None,
        priorityLane: str | None = None,
        overwriteMode: int | None = None,
        minCipher: int | None = None,
        fileTimeResolutionMicroseconds: int | None = None,
        timeoutSeconds: float | None = None,
        userData: dict[str, str] | None = None,
        token: str | None = None,
        transferLog: bool = False,
    ) -> Transfer:
        """Send a manifest to a destination, below `destinationPath`.

        priority 0…4294967295, lower goes first. timeoutSeconds: fail after so long without connection; 0 =
        never. What is None comes from the destination's transfer defaults.
        """
        transfer: Transfer = self._call(
            "createTransfer",
            destinationId=object_id(destinationId, "destinationId"),
            manifestId=object_id(manifestId, "manifestId"),
            destinationPath=destinationPath,
            userName=userName,
            password=password,
            priority=priority,
            transferFlags=transferFlags,
            checkpointFrequencySeconds=checkpointFrequencySeconds,
            sendRateMax=sendRateMax,
            priorityLane=priorityLane,
            overwriteMode=overwriteMode,
            minCipher=minCipher,
            fileTimeResolutionMicroseconds=fileTimeResolutionMicroseconds,
            timeoutSeconds=timeoutSeconds,
            userData=userData,
            token=token,
            transferLog=transferLog or None,
        )
        return transfer

    def getTransfer(self, transferId: Id, getCompleteFlags: bool | None = None) -> Transfer:
        transfer: Transfer = self._call(
            "getTransfer", transferId=_transfer(transferId), getCompleteFlags=getCompleteFlags
        )
        return transfer

    def getTransfers(
        self,
        destinationId: Id | None = None,
        before: Id | None = None,
        after: Id | None = None,
        limit: int | None = None,
    ) -> list[Transfer]:
        """All transfers, or those of one destination, or before or after one (exclusive)."""
        transfers: list[Transfer] = self._call(
            "getTransfers",
            destinationId=object_id(destinationId, "destinationId"),
            before=_transfer(before),
            after=_transfer(after),
            limit=limit,
        )
        return transfers

    def deleteTransfer(self, transferId: Id) -> None:
        """Refused while it is active: suspend it first."""
        self._call("deleteTransfer", transferId=_transfer(transferId))

    def failTransfer(self, transferId: Id, errorMessage: str | None = None) -> None:
        """End an active transfer with the status `error`."""
        self._call("failTransfer", transferId=_transfer(transferId), errorMessage=errorMessage)

    def suspendTransferAsync(self, transferId: Id) -> Request:
        """Stop sending and keep the state. Only an active transfer can be suspended."""
        request: Request = self._call("suspendTransferAsync", transferId=_transfer(transferId))
        return request

    def suspendTransfer(self, transferId: Id) -> dict[str, Any]:
        result: dict[str, Any] = self._call(
            "suspendTransfer", transferId=_transfer(transferId), blocking=True
        )
        return result

    def resumeTransferAsync(self, transferId: Id) -> Request:
        """Put a suspended transfer back into the queue."""
        request: Request = self._call("resumeTransferAsync", transferId=_transfer(transferId))
        return request

    def resumeTransfer(self, transferId: Id) -> dict[str, Any]:
        result: dict[str, Any] = self._call("resumeTransfer", transferId=_transfer(transferId), blocking=True)
        return result

    def setTransferPriorityAsync(
        self, transferId: Id, priority: int | None = None, priorityLane: str | None = None
    ) -> Request:
        """Change priority and lane at once, also of a transfer under way; result {"transferId": …}."""
        request: Request = self._call(
            "setTransferPriorityAsync",
            transferId=_transfer(transferId),
            priority=priority,
            priorityLane=priorityLane,
        )
        return request

    def setTransferPriority(
        self, transferId: Id, priority: int | None = None, priorityLane: str | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = self._call(
            "setTransferPriority",
            transferId=_transfer(transferId),
            priority=priority,
            priorityLane=priorityLane,
            blocking=True,
        )
        return result

    def setTransferSendRateMaxAsync(self, transferId: Id, sendRateMax: float) -> Request:
        """Change its highest rate, -1 = not throttled; result {"sendRateMax": …}."""
        request: Request = self._call(
            "setTransferSendRateMaxAsync", transferId=_transfer(transferId), sendRateMax=sendRateMax
        )
        return request

    def setTransferSendRateMax(self, transferId: Id, sendRateMax: float) -> dict[str, Any]:
        result: dict[str, Any] = self._call(
            "setTransferSendRateMax", transferId=_transfer(transferId), sendRateMax=sendRateMax, blocking=True
        )
        return result

    def waitForTransfer(self, transferId: Id) -> Transfer:
        """Block until the transfer is complete, suspended or has failed."""
        transfer: Transfer = self._call("waitForTransfer", transferId=_transfer(transferId), blocking=True)
        return transfer
