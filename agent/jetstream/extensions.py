"""What the bundled server can do beyond the JetStream documents: the `lanesync` namespace.

A server announces it in `getServerInfo()["lanesync"]`; no other server answers these methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from agent.jetstream.interface import Interface, object_id
from agent.jetstream.structures import Id, Request, ServerInfo, Transfer

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


class ListedFile(TypedDict):
    """`kind` is file, directory (an empty one), link or other. `digest`: xxh3_64 of the content, empty when
    it was not asked for or could not be read; of a link's text always (older servers: when asked for)."""

    path: str
    kind: Literal["file", "directory", "link", "other"]
    size: int
    mtimeNs: int
    executable: bool
    digest: str


class ListedFiles(TypedDict):
    """A page; `next` is `after` of the next one, None at the end."""

    files: list[ListedFile]
    next: str | None


class TransferResults(TypedDict):
    files: list[TransferResult]
    next: int


class ManifestPart(TypedDict):
    manifestId: str


class LaneBytes(TypedDict):
    lanes: dict[str, int]  # by name


def extensions_of(info: ServerInfo) -> frozenset[str]:
    """The extensions a server announces in a protocol that we speak."""
    announced = info.get("lanesync") or {}
    if announced.get("protocol") != PROTOCOL:
        return frozenset()
    return frozenset(str(name) for name in announced.get("extensions") or ())


class ExtensionInterface(Interface):
    namespace = "lanesync"

    def waitEvents(
        self,
        after: int = 0,
        timeoutSeconds: float = 20.0,
        limit: int = 1000,
        kinds: Sequence[str] | None = None,
    ) -> Events:
        """Wait until something changed after the cursor `after`, at most so many seconds; nothing but of
        these kinds, where the server announces eventKinds."""
        events: Events = self._call(
            "waitEvents",
            after=after,
            timeoutSeconds=timeoutSeconds,
            limit=limit,
            kinds=None if kinds is None else list(kinds),
            blocking=True,
        )
        return events

    def getTransferResults(self, transferId: Id, after: int = 0, limit: int = 20_000) -> TransferResults:
        """Files of a transfer that became final since the cursor `after`."""
        results: TransferResults = self._call(
            "getTransferResults", transferId=object_id(transferId, "transferId"), after=after, limit=limit
        )
        return results

    def getLaneBytes(self, destinationId: Id) -> LaneBytes:
        """What each lane of a destination has sent since the server started, headers included."""
        found: LaneBytes = self._call("getLaneBytes", destinationId=object_id(destinationId, "destinationId"))
        return found

    def fillManifest(
        self, mappings: Mapping[str, Any], manifestId: Id | None = None, complete: bool = True
    ) -> ManifestPart:
        """Begin a manifest, or add to one, of entries that need no look; with `complete` nothing more
        comes."""
        made: ManifestPart = self._call(
            "fillManifest",
            mappings=dict(mappings),
            manifestId=None if manifestId is None else object_id(manifestId, "manifestId"),
            complete=complete,
        )
        return made

    def sendEntries(
        self,
        mappings: Mapping[str, Any],
        transfer: Mapping[str, Any],
        userData: Mapping[str, str] | None = None,
    ) -> Transfer:
        """Send entries that need no look. `transfer` is what createTransfer takes, without the manifest;
        `userData` is the manifest's."""
        made: Transfer = self._call(
            "sendEntries",
            mappings=dict(mappings),
            transfer={name: value for name, value in transfer.items() if value is not None},
            userData=None if userData is None else dict(userData),
        )
        return made

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

    def renamePathsAsync(
        self,
        destinationId: Id,
        renames: Sequence[tuple[str, str]],
        userName: str | None = None,
        password: str | None = None,
        token: str | None = None,
    ) -> Request:
        """Rename files at the destination, (old, new) in the given order. Directories above the new path are
        made, and nothing is replaced.

        The request's result is {"results": [[new, "renamed" | "absent" | "taken" | "failed", message], …]}.
        """
        request: Request = self._call(
            "renamePathsAsync",
            destinationId=object_id(destinationId, "destinationId"),
            renames=[list(pair) for pair in renames],
            userName=userName,
            password=password,
            token=token,
        )
        return request

    def listPathsAsync(
        self,
        destinationId: Id,
        directory: str = "/",
        after: str = "",
        checksum: bool | None = None,
        limit: int | None = None,
        userName: str | None = None,
        password: str | None = None,
        token: str | None = None,
    ) -> Request:
        """A page of what is at the destination at or below a directory, in the byte order of the paths, from
        what follows the path `after`; with `checksum`, digests of the contents.

        The request's result is ListedFiles; it can be fetched once, within five minutes.
        """
        request: Request = self._call(
            "listPathsAsync",
            destinationId=object_id(destinationId, "destinationId"),
            directory=directory,
            after=after,
            checksum=checksum,
            limit=limit,
            userName=userName,
            password=password,
            token=token,
        )
        return request
