"""The documented structures, as the bundled server fills them.

Times are integer microseconds since 1970 UTC, or None while not yet valid. Rates are kbit/s, sizes bytes.
Every structure is a plain dict; a server may add fields. Fields marked "ours" are not in the public
documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypeAlias, TypedDict

Id: TypeAlias = str | int | Mapping[str, Any]
"""What every id parameter takes: the id, or a structure that holds it."""


class Request(TypedDict):
    """Answer of a method whose name ends in Async."""

    requestId: str | int


class RequestStatus(TypedDict):
    errorMessage: str
    processing: bool
    status: str  # pending | complete | error
    requestId: NotRequired[str | int]


class Destination(TypedDict, total=False):
    connectionId: str
    destinationAddress: str
    destinationId: str
    destinationIP: str
    destinationPort: int
    destinationPublicKey: str | None
    encryptedConnectionState: str  # disconnected | negotiating | connected
    encryptionEnabled: bool
    lastDestinationServerId: str | None
    lastDestinationServerUid: str | None
    lastError: Any
    lastErrorMessage: str
    lastReceiverDestinationId: str | None  # the server that answered the last ping
    lastRecvTime: int | None
    lastSendTime: int | None
    numTransfersQueued: int
    owner: str
    ownerToken: str | None
    ownerTokenSession: str | None
    permittedDestinationPublicKey: str | None
    authenticateDestination: bool  # ours, as all below
    permanent: bool
    priorityLanes: dict[str, float]
    relayAddress: str | None
    relayPort: int | None
    senderPort: int
    sendRateMax: float | None
    transferDefaults: dict[str, Any]
    userData: dict[str, str]


class Connection(TypedDict, total=False):
    connectionId: str
    destinationIP: str
    destinationPort: int
    destinationPublicKey: str | None
    encryptedConnectionState: str
    encryptionEnabled: bool
    lastDestinationServerId: str | None
    lastDestinationServerUid: str | None
    lastError: Any
    lastErrorMessage: str
    lastReceiverDestinationId: str | None  # ours
    lastRecvTime: int | None
    lastSendTime: int | None
    numTransfersQueued: int
    rateControlAlgorithm: str | None  # ours: the kernel's name of what is in force
    rateControllerActive: bool
    rateControlMethod: int  # constants.RATE_CONTROL_*
    sendRate: float | None  # ours, as the next two: of the last second, or fixed
    sendRateMax: float | None
    sendRateMin: float | None
    relayIP: str | None
    relayPort: int | None


class Manifest(TypedDict, total=False):
    errorMessage: str | None
    manifestId: str
    owner: str
    ownerToken: str | None
    ownerTokenSession: str | None
    processing: bool
    status: str  # pending | complete | error
    totalFiles: int | None
    totalSize: int | None
    userData: dict[str, str]


class FileMapping(TypedDict, total=False):
    destPath: str
    executable: bool
    fileSize: int
    isEmptyDir: bool
    modificationTime: int | None
    srcPath: str


class ManifestFiles(TypedDict):
    manifestId: str
    fileMappings: list[FileMapping]


class Transfer(TypedDict, total=False):
    blocksAcked: int
    blockSize: int  # 256
    blocksRetransmitted: int
    blocksSent: int
    bytesAcked: int  # ours
    bytesRecv: int
    bytesSent: int
    checkpointFrequencySeconds: int | None
    completeFlags: list[bool]  # ours: by manifest order, only when asked for
    destinationId: str
    destinationPath: str
    endTime: int | None
    errorMessage: str
    filesComplete: int  # ours
    manifestId: str
    owner: str
    ownerToken: str | None
    ownerTokenSession: str | None
    packetsRecv: int
    packetsSent: int
    priority: int
    priorityLane: str  # ours
    processing: bool
    queueTime: int | None
    requestTime: int
    sendRateMax: float | None  # ours
    snapshotTime: int | None
    startTime: int | None
    timeoutSeconds: float  # ours
    transferFlags: int  # ours
    status: str  # pending | sending | suspended | resuming | complete | error
    totalBlocks: int
    totalBytes: int
    totalFiles: int  # ours
    transferId: str
    userData: dict[str, str]


class ReceiveTransfer(TypedDict, total=False):
    destinationPath: str
    lastErrorTime: int | None
    lastRecvTime: int | None
    lastSendTime: int | None
    sourceIP: str
    sourcePort: int
    status: str  # receiving | complete | error
    totalSize: int
    transferId: str


class Source(TypedDict, total=False):
    activeTransferCount: int
    aveRecvRate: float
    aveRecvRateWindow: float
    completeTransferCount: int
    destinationPublicKey: str | None
    encryptedConnectionState: str
    encryptionEnabled: bool
    errorTransferCount: int
    inactiveTransferCount: int
    sourceIP: str
    sourcePort: int


class Token(TypedDict, total=False):
    creationTime: int
    description: str
    downloadCount: int
    downloadLimit: int | None
    expiryTime: int | None
    manifestId: str
    owner: str
    ownerToken: str | None
    ownerTokenSession: str | None
    passwordRequired: bool
    path: str  # of an API token
    permissions: int
    token: str
    tokenId: str  # ours: what `ownerToken` of other structures names
    userData: dict[str, str]


class FileItem(TypedDict):
    """What is in a directory (ours). `size` is 0 for all but files."""

    name: str
    type: str  # file | directory | link | other
    size: int
    modificationTime: int
    executable: bool


class Listing(TypedDict):
    """Answer of ls (ours). `next`: go on after this name; None = that is all."""

    path: str
    entries: list[FileItem]
    next: str | None


class Usage(TypedDict):
    """Answer of du (ours)."""

    path: str
    totalSize: int
    totalFiles: int
    totalDirectories: int
    complete: bool


Event: TypeAlias = "dict[str, Any]"
"""An entry of the event log: the structure of what changed, with `_event` and `_timestamp`."""


class GarbageCollect(TypedDict):
    intervalSeconds: int
    timeLimitSeconds: int


class BandwidthLimits(TypedDict, total=False):
    """Fields are ours; rates kbit/s, None = no limit."""

    borrowIncomingRate: bool  # sending may use what receiving leaves
    borrowOutgoingRate: bool
    fixed: list[str]  # names of those set on the command line
    incomingRate: float  # of the last second
    incomingRateAllowed: float | None  # now, with what is lent
    incomingRateLimit: float | None
    outgoingRate: float
    outgoingRateAllowed: float | None
    outgoingRateLimit: float | None


class ServerInfo(TypedDict, total=False):
    allowRemoteControl: bool
    apiControlPort: int
    APITokensAvailable: bool
    apiVersion: int
    authRequired: bool
    bandwidthLimits: BandwidthLimits
    certificateValidation: int | None
    configuration: dict[str, Any]
    encryptionAvailable: bool
    eventLogAvailable: bool
    hostName: str
    lanesync: dict[str, Any]  # ours: {"protocol": 1, "extensions": [...]}
    license: dict[str, Any]
    minCipher: int
    multiplexAvailable: bool
    publicKey: str | None
    receiver: dict[str, Any]
    revision: int
    serverExternalAddress: str | None
    serverId: str
    serverName: str
    serverUid: str  # ours
    version: str
