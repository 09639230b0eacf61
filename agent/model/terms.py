"""The words of the specs: the enumerations and small values that the fields of the kinds are made of.

Rates are kbit/s, durations seconds, shares fractions of one. Paths are `str` with surrogateescape for bytes
that are not UTF-8. They are imported from agent.model.spec, with the kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_PRIORITY = 100


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
class Lane:
    name: str
    share: float


DEFAULT_LANES = (Lane("High", 0.70), Lane("Normal", 0.25), Lane("Low", 0.05), Lane("Idle", 0.0))
"""The lanes a JetStream destination has when nobody set any."""


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
    interval_written: bool = False  # by somebody, who is taken at their word; else it may be made longer


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
    interval_written: bool = False  # as in Trigger


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


def default_lane(lanes: tuple[Lane, ...]) -> str:
    """The lane of a transfer that names none: `Normal` where it exists, else the first with a share."""
    names = [lane.name for lane in lanes]
    if "Normal" in names:
        return "Normal"
    return next((lane.name for lane in lanes if lane.share > 0), names[0])
