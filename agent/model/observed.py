"""Observed state: what a transfer server reports, in engine-neutral terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from agent.model.change import FileKind
from agent.model.condition import Reason
from agent.model.spec import Lane, MinCipher, Overwrite, Route


@dataclass(frozen=True, slots=True)
class Tag:
    """Ownership mark on all that the agent creates. It changes and deletes only what carries its own tag."""

    agent: str
    spec: str  # "Mapping/dailies" or "Destination/archive"
    revision: str = ""
    spec_digest: str = ""
    attempt: int = 0
    change_digest: str = ""

    def to_user_data(self) -> dict[str, str]:
        return {
            "lanesync.agent": self.agent,
            "lanesync.spec": self.spec,
            "lanesync.revision": self.revision,
            "lanesync.specDigest": self.spec_digest,
            "lanesync.attempt": str(self.attempt),
            "lanesync.changeDigest": self.change_digest,
        }

    @classmethod
    def from_user_data(cls, data: dict[str, str]) -> Tag | None:
        """None when the object is not an agent's, or its tag cannot be read."""
        attempt = data.get("lanesync.attempt", "0")
        if "lanesync.agent" not in data or "lanesync.spec" not in data or not attempt.isdigit():
            return None
        return cls(
            agent=data["lanesync.agent"],
            spec=data["lanesync.spec"],
            revision=data.get("lanesync.revision", ""),
            spec_digest=data.get("lanesync.specDigest", ""),
            attempt=int(attempt),
            change_digest=data.get("lanesync.changeDigest", ""),
        )


@dataclass(frozen=True, slots=True)
class ObservedDefaults:
    """Transfer defaults of a destination; None = the engine does not report it."""

    priority: int | None = None
    lane: str | None = None
    checkpoint_interval: float | None = None
    overwrite: Overwrite | None = None
    modification_time_tolerance: float | None = None
    min_cipher: MinCipher | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should know although work goes on. The message names the remedy, and no time
    that passes, so that the same notice is the same text."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ObservedDestination:
    id: str
    address: str
    port: int
    tag: Tag | None
    lanes: tuple[Lane, ...] | None = None  # None = the engine does not report it
    send_rate_max: float | None = None  # kbit/s; None = unlimited
    defaults: ObservedDefaults = ObservedDefaults()
    connected: bool = False
    last_error: str = ""
    full: bool = False  # its storage; what is sent there waits for room
    refused: bool = False  # it, or we by it: a key or an account is not the right one
    route: Route | None = None  # None = the engine does not report it
    notices: tuple[Notice, ...] = ()


class TransferState(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    COMPLETE = "complete"
    ERROR = "error"
    LOST = "lost"  # the server no longer knows it: not the same as failed
    UNKNOWN = "unknown"  # a state this version has no word for: never success

    @property
    def active(self) -> bool:
        return self in (TransferState.PENDING, TransferState.SENDING, TransferState.RESUMING)

    @property
    def finished(self) -> bool:
        return self in (TransferState.COMPLETE, TransferState.ERROR, TransferState.LOST)


@dataclass(frozen=True, slots=True)
class ObservedTransfer:
    id: str
    destination_id: str
    manifest_id: str
    tag: Tag | None
    state: TransferState
    lane: str = ""
    priority: int = 100
    send_rate_max: float | None = None  # kbit/s; None = unlimited
    total_bytes: int = 0
    done_bytes: int = 0
    total_files: int = 0
    done_files: int = 0
    error: str = ""


class FileOutcome(StrEnum):
    DELIVERED = "delivered"  # durable at the destination
    SKIPPED = "skipped"  # the overwrite mode left what was there
    VANISHED = "vanished"  # the source file was gone when its turn came
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file of a transfer. The stat is what the sender read (0 where it is not known)."""

    path: str
    outcome: FileOutcome
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    digest: str = ""
    error: str = ""


class FarFile(NamedTuple):
    """One file, link or empty directory as it is at the destination."""

    path: str  # full destination path
    kind: FileKind
    size: int
    mtime_ns: int
    digest: str = ""  # of the content, as in FileResult; empty when it was not asked for. Of what a link says
    executable: bool = False


@dataclass(frozen=True, slots=True)
class EngineState:
    """One observation of a server; only what carries this agent's tag."""

    destinations: tuple[ObservedDestination, ...] = ()
    transfers: tuple[ObservedTransfer, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. What a spec asks beyond it becomes a condition that names the field."""

    lanes: bool = True
    rates: bool = True
    suspend: bool = True
    delete: bool = False  # delete at the destination
    file_results: bool = False  # per-file results with what the sender read
    events: bool = False  # pushes changes; without it the adapter polls
    overwrites: frozenset[Overwrite] = frozenset(Overwrite)
    ciphers: bool = True  # `minCipher` and the route: how data on the wire is protected and guided
    credentials: bool = True  # an account on the receiving server
    fine_times: bool = True  # `modificationTimeTolerance` and `checkpointInterval` mean something
    rename: bool = False  # rename at the destination
    inventory: bool = False  # tell what is at the destination …
    digests: bool = True  # … also with digests of the contents
    links: bool = False  # make symbolic links at the destination
    sets: bool = False  # publish a change set as a whole
    strict: bool = False  # `durability: strict`
    shares: bool = False  # shared tokens: see agent.engines.port.Sharing
    hold: bool = False  # a destination can be held at the server: see agent.engines.port.Holding
    case_sensitive: bool = True  # the destination tells `a` from `A`, and forms of Unicode from each other
    control_characters: bool = True  # its names may hold them
    notices: tuple[Notice, ...] = ()
    names: dict[str, str] = field(default_factory=dict)  # free facts for `describe`: version, server id
