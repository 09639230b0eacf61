"""The spec kinds as typed, frozen values: what `specs/` makes of validated YAML.

Rates are kbit/s, durations seconds, shares fractions of one. Source paths are absolute.
Paths are `str` with surrogateescape for bytes that are not UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, NamedTuple

DEFAULT_PRIORITY = 100
IMPLICIT_SERVER = "embedded"
"""Name of the embedded server that sends for destinations which name none."""

TRASH = ".lanesync-trash"
"""Directory at the destination's root below which deleted files are kept, by day."""


class Kind(StrEnum):
    SERVER = "Server"
    PRIORITY_LANES = "PriorityLanes"
    DESTINATION = "Destination"
    MAPPING = "Mapping"
    SHARE = "Share"
    ALERT = "Alert"


class Key(NamedTuple):
    """Identity of one object, printed `Mapping/dailies`; the unit of reconciling."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """`Mapping/dailies` -> Key; the kind's case does not matter. Raises ValueError."""
        kind, _, name = text.partition("/")
        for known in Kind:
            if known.lower() == kind.lower() and name:
                return cls(known, name)
        raise ValueError(f"{text!r} does not name an object; write KIND/NAME, for example Mapping/dailies")


class EngineKind(StrEnum):
    EMBEDDED = "embedded"
    JETSTREAM = "jetstream"
    FTS3 = "fts3"


class ClientKind(StrEnum):
    """Which module speaks the JetStream API to a server."""

    BUILTIN = "builtin"
    VENDOR = "vendor"


class SecretSource(StrEnum):
    ENV = "env"
    FILE = "file"
    CREDENTIAL = "credential"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is found; never the secret itself."""

    source: SecretSource
    name: str
    argv: tuple[str, ...] = ()  # of a command, whose name is that of its program


@dataclass(frozen=True, slots=True)
class Auth:
    """How the agent logs in to a server: a user and password, a token, or a client certificate (files)."""

    user_name: str | None = None
    password: SecretRef | None = None
    token: SecretRef | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom the agent takes for the server: a file of certificates, one public key, or anybody."""

    ca: str | None = None
    public_key: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """A local directory and the URL under which a storage element serves the same files."""

    path: str
    url: str


@dataclass(frozen=True, slots=True)
class ServerSpec:
    name: str
    engine: EngineKind = EngineKind.EMBEDDED
    address: str = "127.0.0.1"
    port: int = 0  # embedded: 0 = any free port
    receive_root: str | None = None  # embedded; relative = below the state directory
    auth: Auth = Auth()
    accounts: str | None = None  # embedded: accounts file of those who may send to it
    authorized_clients: tuple[str, ...] = ()  # embedded: public keys of servers that may send to it
    client: ClientKind = ClientKind.BUILTIN  # jetstream
    tls: Tls = Tls()  # jetstream; fts3: only `ca`, a file or directory
    endpoint: str | None = None  # fts3: URL of its REST API
    delegation_lifetime: float = 43_200.0  # fts3
    storage: tuple[Storage, ...] = ()  # fts3, longest path first
    verify_checksum: bool = True  # fts3: compare ADLER32 of source and destination


@dataclass(frozen=True, slots=True)
class Lane:
    name: str
    share: float


DEFAULT_LANES = (Lane("High", 0.70), Lane("Normal", 0.25), Lane("Low", 0.05), Lane("Idle", 0.0))
"""The lanes a JetStream destination has when nobody set any."""


@dataclass(frozen=True, slots=True)
class PriorityLanesSpec:
    name: str
    lanes: tuple[Lane, ...] = DEFAULT_LANES


class Overwrite(StrEnum):
    ALWAYS = "always"
    NEVER = "never"
    NEWER = "newer"
    SAME_SIZE_IN_PLACE = "sameSizeInPlace"
    BACKUP = "backup"


class MinCipher(StrEnum):
    """Least protection of the data on the wire, weakest first."""

    NONE = "none"
    AUTHENTICATED = "authenticated"
    ENCRYPTED_128 = "encrypted128"
    ENCRYPTED_256 = "encrypted256"


class Durability(StrEnum):
    """When what was delivered is safe from a power cut at the destination."""

    CHECKPOINT = "checkpoint"  # at each checkpoint, and before the transfer is complete
    STRICT = "strict"  # before each file appears under its name


class OnRemove(StrEnum):
    """What happens on the server when an object leaves the specs."""

    ORPHAN = "orphan"
    CANCEL = "cancel"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class TransferDefaults:
    priority: int = DEFAULT_PRIORITY
    lane: str | None = None  # None = "Normal" when that lane exists, else the first with a share
    checkpoint_interval: float = 30.0
    overwrite: Overwrite = Overwrite.ALWAYS
    modification_time_tolerance: float = 0.0
    timeout: float = 0.0  # seconds disconnected before a transfer fails; 0 = wait for ever
    min_cipher: MinCipher | None = None  # None = none on loopback, else encrypted256
    durability: Durability = Durability.CHECKPOINT


@dataclass(frozen=True, slots=True)
class Route:
    """How a receiver is reached and recognised, beside its address."""

    public_key: str | None = None
    authenticate: bool = False
    relay_address: str = ""
    relay_port: int = 0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Account on the receiving server."""

    user_name: str
    password: SecretRef


class Overrun(StrEnum):
    """What becomes of a transfer that runs when a pause begins."""

    FINISH = "finish"
    SUSPEND = "suspend"


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the day with another rate, or with a pause. `start` and `end` are minutes of the day in
    `timezone`; an end that is not later than the start is on the next day. `days`: those on which it
    begins, 0 = Monday."""

    days: tuple[int, ...]
    start: int
    end: int
    timezone: str = "UTC"
    send_rate_max: float | None = None  # kbit/s
    pause: bool = False
    overrun: Overrun = Overrun.SUSPEND


@dataclass(frozen=True, slots=True)
class DestinationSpec:
    """`address` is a host and `port` its port; for an FTS3 server a URL, and 0."""

    name: str
    address: str
    port: int = 8886
    server: str = IMPLICIT_SERVER
    lanes: str | None = None
    send_rate_max: float | None = None
    transfer_defaults: TransferDefaults = TransferDefaults()
    suspend: bool = False
    on_remove: OnRemove = OnRemove.ORPHAN
    route: Route = Route()
    credentials: Credentials | None = None
    windows: tuple[Window, ...] = ()
    control_server: str | None = None  # a Server that reaches the API of the receiving side

    @property
    def place(self) -> str:
        return f"{self.address}:{self.port}" if self.port else self.address


class Symlinks(StrEnum):
    COPY_CONTENTS = "copyContents"
    IGNORE = "ignore"
    PRESERVE = "preserve"


@dataclass(frozen=True, slots=True)
class PathMapping:
    """One entry of `paths`: a source (absolute) and where it goes below destinationPath."""

    destination: str  # normalised, starts with "/", relative to the mapping's destination_path
    source: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Ready(StrEnum):
    CLOSED = "closed"
    QUIET = "quiet"
    SENTINEL = "sentinel"


@dataclass(frozen=True, slots=True)
class Trigger:
    watch: bool = True
    ready: Ready = Ready.CLOSED
    settle: float = 0.2
    max_wait: float = 600.0
    interval: float | None = 600.0  # None = `schedule` alone decides
    sentinel: str | None = None  # of Ready.SENTINEL: a directory is ready once it holds a file of this name
    schedule: str | None = None  # cron expression of further whole looks
    timezone: str = "UTC"  # of the schedule


@dataclass(frozen=True, slots=True)
class Deletions:
    max_count: int = 1000
    max_percent: float = 0.10
    grace: float = 0.0  # seconds that a file must have been gone before it is deleted
    trash: bool = False  # moved below TRASH at the destination instead of deleted


class DriftPolicy(StrEnum):
    CORRECT = "correct"
    WARN = "warn"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Drift:
    """What becomes of files that somebody changed at the destination, and how often they are looked for."""

    policy: DriftPolicy = DriftPolicy.WARN
    interval: float = 3600.0


class VerifyMode(StrEnum):
    METADATA = "metadata"
    CHECKSUM = "checksum"


@dataclass(frozen=True, slots=True)
class Verify:
    """A comparison of the destination with what was delivered; None = only when somebody asks."""

    interval: float | None = None
    mode: VerifyMode = VerifyMode.METADATA


class Publish(StrEnum):
    FILE = "file"  # each file appears on its own
    SET = "set"  # a change set appears when all of it is there, its marker file last


class Receipt(StrEnum):
    NONE = "none"
    ASC_MHL = "ascMhl"


class Release(StrEnum):
    """What becomes of a source file once every destination has it, verified."""

    KEEP = "keep"
    DELETE_SOURCE = "deleteSource"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    interval: float = 5.0
    max_interval: float = 600.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """Names of commands of the policy."""

    on_delivered: str | None = None
    on_stalled: str | None = None


@dataclass(frozen=True, slots=True)
class MappingSpec:
    name: str
    destinations: tuple[str, ...]
    paths: tuple[PathMapping, ...]
    destination_path: str = "/"  # normalised, starts with "/"
    labels: tuple[tuple[str, str], ...] = ()
    symlinks: Symlinks = Symlinks.COPY_CONTENTS
    lane: str | None = None  # None = the destination's default
    priority: int | None = None
    send_rate_max: float | None = None
    overwrite: Overwrite | None = None
    preserve_mtime: bool = True
    preserve_executable: bool = True
    trigger: Trigger = Trigger()
    prune: bool = False
    deletions: Deletions = Deletions()
    retry: RetryPolicy = RetryPolicy()
    suspend: bool = False
    on_remove: OnRemove = OnRemove.ORPHAN
    depends_on: tuple[str, ...] = ()  # mappings that must be in sync first
    hooks: Hooks = Hooks()
    drift: Drift = Drift()
    verify: Verify = Verify()
    publish: Publish = Publish.FILE
    marker: str | None = None  # of Publish.SET: name of the file that appears last
    receipt: Receipt = Receipt.NONE
    release: Release = Release.KEEP


@dataclass(frozen=True, slots=True)
class ShareSpec:
    """A token with which others download what a mapping delivers."""

    name: str
    mapping: str
    expires_in: float | None = None  # seconds from its creation; None = never
    download_limit: int | None = None
    password: SecretRef | None = None
    description: str = ""


class AlertOn(StrEnum):
    """What an alert watches for: a condition that is true, or an object that is not in sync."""

    STALLED = "Stalled"
    DRIFTED = "Drifted"
    NOT_IN_SYNC = "NotInSync"
    SUSPENDED = "Suspended"
    WATCH_DEGRADED = "WatchDegraded"
    LIMITED = "Limited"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where messages go. `secret` signs them; `ca` is a file of certificates beside those of the system."""

    url: SecretRef
    secret: SecretRef | None = None
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A ping that is sent while the agent lives and its loop moves."""

    url: SecretRef
    interval: float = 60.0


@dataclass(frozen=True, slots=True)
class AlertSpec:
    name: str
    on: tuple[AlertOn, ...]
    webhook: Webhook
    holds: float = 0.0  # so long a condition must have been true
    group_wait: float = 10.0  # what comes within this time goes into one request
    repeat: float = 14_400.0  # reminders while something fires; 0 = none
    select: str = ""  # labels of the objects that it is about; empty = all
    heartbeat: Heartbeat | None = None


Spec = ServerSpec | PriorityLanesSpec | DestinationSpec | MappingSpec | ShareSpec | AlertSpec


_KINDS: dict[type[Spec], Kind] = {
    ServerSpec: Kind.SERVER,
    PriorityLanesSpec: Kind.PRIORITY_LANES,
    DestinationSpec: Kind.DESTINATION,
    MappingSpec: Kind.MAPPING,
    ShareSpec: Kind.SHARE,
    AlertSpec: Kind.ALERT,
}


def kind_of(spec: Spec) -> Kind:
    return _KINDS[type(spec)]


def key_of(spec: Spec) -> Key:
    return Key(kind_of(spec), spec.name)


_TABLES = {
    Kind.SERVER: "servers",
    Kind.PRIORITY_LANES: "lanes",
    Kind.DESTINATION: "destinations",
    Kind.MAPPING: "mappings",
    Kind.SHARE: "shares",
    Kind.ALERT: "alerts",
}


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All specs of a revision, resolved: every reference exists, the implicit server is present if used."""

    revision: str
    servers: dict[str, ServerSpec] = field(default_factory=dict)
    lanes: dict[str, PriorityLanesSpec] = field(default_factory=dict)
    destinations: dict[str, DestinationSpec] = field(default_factory=dict)
    mappings: dict[str, MappingSpec] = field(default_factory=dict)
    shares: dict[str, ShareSpec] = field(default_factory=dict)
    alerts: dict[str, AlertSpec] = field(default_factory=dict)

    def of_kind(self, kind: Kind) -> dict[str, Any]:
        """The objects of one kind, by name."""
        found: dict[str, Any] = getattr(self, _TABLES[kind])
        return found

    def get(self, key: Key) -> Spec | None:
        spec: Spec | None = self.of_kind(key.kind).get(key.name)
        return spec

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Key) and key.name in self.of_kind(key.kind)

    def all_keys(self) -> tuple[Key, ...]:
        """Every object, in the order in which they depend on each other."""
        return tuple(Key(kind, name) for kind in Kind for name in sorted(self.of_kind(kind)))

    def lanes_of(self, destination: DestinationSpec) -> tuple[Lane, ...]:
        return DEFAULT_LANES if destination.lanes is None else self.lanes[destination.lanes].lanes


@cache
def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


def _as_object(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in _names(type(value))}  # type: ignore[arg-type]


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, check_circular=False, default=_as_object)


def as_json(spec: Spec) -> str:
    """Every field by its name; the same text for equal specs."""
    return _ENCODER.encode(spec)


@lru_cache(maxsize=32_768)
def digest(spec: Spec) -> str:
    """Identity of one object's content; the same for equal specs, whatever file or order they come from.
    It is asked for at every turn of an object."""
    return hashlib.sha256(as_json(spec).encode()).hexdigest()[:16]


def default_lane(lanes: tuple[Lane, ...]) -> str:
    """The lane of a transfer that names none: `Normal` where it exists, else the first with a share."""
    names = [lane.name for lane in lanes]
    if "Normal" in names:
        return "Normal"
    return next((lane.name for lane in lanes if lane.share > 0), names[0])
