"""What the bundled server can do beyond the JetStream documents: the `lanesync` namespace.

A server announces it in `getServerInfo()["lanesync"]`; no other server answers these methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

from agent.jetstream.interface import Interface, object_id
from agent.jetstream.structures import Id, Request, ServerInfo

PROTOCOL = 1


class Event(TypedDict):
    seq: int
    kind: str  # transfer | manifest | destination | deletion
    id: str


class Events(TypedDict):
    """`next` is the cursor for the next call; `reset`: the cursor was of another launch of the server."""

    next: int
    events: NotRequired[list[Event]]
    reset: NotRequired[bool]


class TransferResult(TypedDict):
    """One file that is final and durable, or failed for good. Times are nanoseconds; 0 = not known."""

    path: str
    outcome: Literal["delivered", "skipped", "vanished", "failed"]
    size: int
    mtimeNs: int
    ctimeNs: int
    digest: str
    error: str


class TransferResults(TypedDict):
    files: list[TransferResult]
    next: int


def extensions_of(info: ServerInfo) -> frozenset[str]:
    """The extensions a server announces in a protocol that we speak."""
    announced = info.get("lanesync") or {}
    if announced.get("protocol") != PROTOCOL:
        return frozenset()
    return frozenset(str(name) for name in announced.get("extensions") or ())


class ExtensionInterface(Interface):
    namespace = "lanesync"

    def waitEvents(self, after: int = 0, timeoutSeconds: float = 20.0, limit: int = 1000) -> Events:
        """Wait until something changed after the cursor `after`, at most so many seconds."""
        events: Events = self._call(
            "waitEvents", after=after, timeoutSeconds=timeoutSeconds, limit=limit, blocking=True
        )
        return events

    def getTransferResults(self, transferId: Id, after: int = 0, limit: int = 20_000) -> TransferResults:
        """Files of a transfer that became final since the cursor `after`."""
        results: TransferResults = self._call(
            "getTransferResults", transferId=object_id(transferId, "transferId"), after=after, limit=limit
        )
        return results

    def deletePathsAsync(
        self,
        destinationId: Id,
        files: Sequence[str],
        directories: Sequence[str] = (),
        userName: str | None = None,
        password: str | None = None,
        token: str | None = None,
    ) -> Request:
        """Delete at the destination: files, then directories that are empty, in the given order. The
        credentials are for the receiving server, as those of createTransfer.

        The request's result is {"results": [[path, "deleted" | "absent" | "kept" | "failed", message], …]}.
        """
        request: Request = self._call(
            "deletePathsAsync",
            destinationId=object_id(destinationId, "destinationId"),
            files=list(files),
            directories=list(directories),
            userName=userName,
            password=password,
            token=token,
        )
        return request
