"""SendInterface, the part about destinations and connections."""

from __future__ import annotations

from typing import Any

from agent.jetstream.interface import Interface, object_id
from agent.jetstream.structures import Connection, Destination, Id, Request


def _destination(value: Id) -> Any:
    return object_id(value, "destinationId")


class DestinationMethods(Interface):
    """Rates are kbit/s. Every method raises NotFoundError when the destination does not exist."""

    namespace = "send"

    def createDestination(
        self,
        destinationAddress: str,
        sendRateMax: float | None = None,
        destinationPort: int | None = None,
        authenticateDestination: bool | None = None,
        destinationPublicKey: str | None = None,
        relayAddress: str | None = None,
        relayPort: int | None = None,
        senderPort: int | None = None,
        exclusive: bool | None = None,
        permanent: bool | None = None,
    ) -> Destination:
        """Add a destination, or return the one that matches unless `exclusive`.

        An existing one keeps its rate. `permanent`: never collected as garbage. Nothing says that a server
        listens at the other end.
        """
        destination: Destination = self._call(
            "createDestination",
            destinationAddress=destinationAddress,
            sendRateMax=sendRateMax,
            destinationPort=destinationPort,
            authenticateDestination=authenticateDestination,
            destinationPublicKey=destinationPublicKey,
            relayAddress=relayAddress,
            relayPort=relayPort,
            senderPort=senderPort,
            exclusive=exclusive,
            permanent=permanent,
        )
        return destination

    def getDestination(self, destinationId: Id) -> Destination:
        destination: Destination = self._call("getDestination", destinationId=_destination(destinationId))
        return destination

    def getDestinations(self, limit: int = 0) -> list[Destination]:
        """All destinations; `limit` 0 = without bound."""
        destinations: list[Destination] = self._call("getDestinations", limit=limit)
        return destinations

    def deleteDestination(self, destinationId: Id) -> None:
        """Delete it with its transfers. Refused while one of them is active."""
        self._call("deleteDestination", destinationId=_destination(destinationId))

    def setSendRateMaxAsync(self, destinationId: Id, sendRateMax: float) -> Request:
        """Change the highest rate, also of what is under way; result {"sendRateMax": …}."""
        request: Request = self._call(
            "setSendRateMaxAsync", destinationId=_destination(destinationId), sendRateMax=sendRateMax
        )
        return request

    def setSendRateMax(self, destinationId: Id, sendRateMax: float) -> dict[str, Any]:
        result: dict[str, Any] = self._call(
            "setSendRateMax",
            destinationId=_destination(destinationId),
            sendRateMax=sendRateMax,
            blocking=True,
        )
        return result

    def setPriorityLanesAsync(self, destinationId: Id, priorityLanes: dict[str, float]) -> Request:
        """Set all lanes at once: name -> share, shares sum to 1.0, at most one 0.0 (the idle lane).

        The number of lanes, and the name of a lane in use, cannot change while transfers are in progress.
        """
        request: Request = self._call(
            "setPriorityLanesAsync", destinationId=_destination(destinationId), priorityLanes=priorityLanes
        )
        return request

    def setPriorityLanes(self, destinationId: Id, priorityLanes: dict[str, float]) -> Any:
        return self._call(
            "setPriorityLanes",
            destinationId=_destination(destinationId),
            priorityLanes=priorityLanes,
            blocking=True,
        )

    def updateTransferDefaults(
        self,
        destinationId: Id,
        priority: int | None = None,
        transferFlags: int | None = None,
        checkpointFrequencySeconds: int | None = None,
        sendRateMax: float | None = None,
        priorityLane: str | None = None,
        overwriteMode: int | None = None,
        minCipher: int | None = None,
        fileTimeResolutionMicroseconds: int | None = None,
    ) -> None:
        """Defaults of new transfers to this destination; None leaves one as it is."""
        self._call(
            "updateTransferDefaults",
            destinationId=_destination(destinationId),
            priority=priority,
            transferFlags=transferFlags,
            checkpointFrequencySeconds=checkpointFrequencySeconds,
            sendRateMax=sendRateMax,
            priorityLane=priorityLane,
            overwriteMode=overwriteMode,
            minCipher=minCipher,
            fileTimeResolutionMicroseconds=fileTimeResolutionMicroseconds,
        )

    def schedulePingAsync(self, destinationId: Id, pingCount: int) -> Request:
        """Ping the destination; its `lastRecvTime` tells of the answers."""
        request: Request = self._call(
            "schedulePingAsync", destinationId=_destination(destinationId), pingCount=pingCount
        )
        return request

    def schedulePing(self, destinationId: Id, pingCount: int) -> Any:
        return self._call(
            "schedulePing", destinationId=_destination(destinationId), pingCount=pingCount, blocking=True
        )

    def getConnection(self, connectionId: Id) -> Connection:
        """What all destinations that reach the same server share."""
        connection: Connection = self._call(
            "getConnection", connectionId=object_id(connectionId, "connectionId")
        )
        return connection

    def getConnections(self, limit: int = 0) -> list[Connection]:
        connections: list[Connection] = self._call("getConnections", limit=limit)
        return connections

    def updateConnectionParamsAsync(
        self,
        connectionId: Id,
        sendRateMin: float | None = None,
        sendRateMax: float | None = None,
        sendRate: float | None = None,
        rateControlEnabled: bool | None = None,
        rateControlMethod: int | None = None,
    ) -> None:
        """Answers None, as documented, despite its name."""
        self._call(
            "updateConnectionParamsAsync",
            connectionId=object_id(connectionId, "connectionId"),
            sendRateMin=sendRateMin,
            sendRateMax=sendRateMax,
            sendRate=sendRate,
            rateControlEnabled=rateControlEnabled,
            rateControlMethod=rateControlMethod,
        )

    def updateConnectionParams(
        self,
        connectionId: Id,
        sendRateMin: float | None = None,
        sendRateMax: float | None = None,
        sendRate: float | None = None,
        rateControlEnabled: bool | None = None,
        rateControlMethod: int | None = None,
    ) -> None:
        self._call(
            "updateConnectionParams",
            connectionId=object_id(connectionId, "connectionId"),
            sendRateMin=sendRateMin,
            sendRateMax=sendRateMax,
            sendRate=sendRate,
            rateControlEnabled=rateControlEnabled,
            rateControlMethod=rateControlMethod,
        )
