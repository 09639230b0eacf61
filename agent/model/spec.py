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

from agent.model.terms import (
    DEFAULT_LANES,
    DEFAULT_PRIORITY,
    AlertOn,
    Auth,
    ClientKind,
    Credentials,
    Deletions,
    Drift,
    DriftPolicy,
    Durability,
    EngineKind,
    Heartbeat,
    Hooks,
    Lane,
    MinCipher,
    OnRemove,
    Overrun,
    Overwrite,
    PathMapping,
    Publish,
    Ready,
    Receipt,
    Release,
    RetryPolicy,
    Route,
    SecretRef,
    SecretSource,
    Storage,
    Symlinks,
    Tls,
    TransferDefaults,
    Trigger,
    Verify,
    VerifyMode,
    Webhook,
    Window,
    default_lane,
)

__all__ = [
    "DEFAULT_LANES",
    "DEFAULT_PRIORITY",
    "IMPLICIT_SERVER",
    "TRASH",
    "AlertOn",
    "AlertSpec",
    "Auth",
    "ClientKind",
    "Credentials",
    "Deletions",
    "DesiredState",
    "DestinationSpec",
    "Drift",
    "DriftPolicy",
    "Durability",
    "EngineKind",
    "Heartbeat",
    "Hooks",
    "Key",
    "Kind",
    "Lane",
    "MappingSpec",
    "MinCipher",
    "OnRemove",
    "Overrun",
    "Overwrite",
    "PathMapping",
    "PriorityLanesSpec",
    "Publish",
    "Ready",
    "Receipt",
    "Release",
    "RetryPolicy",
    "Route",
    "SecretRef",
    "SecretSource",
    "ServerSpec",
    "ShareSpec",
    "Spec",
    "Storage",
    "Symlinks",
    "Tls",
    "TransferDefaults",
    "Trigger",
    "Verify",
    "VerifyMode",
    "Webhook",
    "Window",
    "as_json",
    "default_lane",
    "digest",
    "key_of",
    "kind_of",
]

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


@dataclass(frozen=True, slots=True)
class ServerSpec:
    name: str
    engine: EngineKind = EngineKind.EMBEDDED
    address: str = "127.0.0.1"
    port: int = 0  # embedded: 0 = any free port
    receive_root: str | None = None  # embedded; relative = below the state directory
    reserve: str | None = None  # embedded: free space that it leaves, as written; None = the server's default
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
class PriorityLanesSpec:
    name: str
    lanes: tuple[Lane, ...] = DEFAULT_LANES


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
