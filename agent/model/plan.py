"""The plan: an ordered list of actions that turns observed into desired state. Pure data.

What `lanesync plan` prints is the object that `apply` and `run` execute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import chain

from agent.model.change import Change, ChangeKind, Deletion, NameProblem, Rename, Suspect
from agent.model.spec import Lane, Overwrite, Route, TransferDefaults


@dataclass(frozen=True, slots=True)
class CreateDestination:
    destination: str  # spec name, as everywhere below
    server: str
    address: str
    port: int
    lanes: tuple[Lane, ...]
    send_rate_max: float | None
    defaults: TransferDefaults
    route: Route = Route()


@dataclass(frozen=True, slots=True)
class RetagDestination:
    """The spec changed in a way that needs no other action; the tag says which version is applied."""

    destination: str
    destination_id: str


@dataclass(frozen=True, slots=True)
class SetLanes:
    destination: str
    destination_id: str
    before: tuple[Lane, ...] | None
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True)
class SetSendRate:
    destination: str
    destination_id: str
    before: float | None
    send_rate_max: float | None


@dataclass(frozen=True, slots=True)
class SetDefaults:
    destination: str
    destination_id: str
    defaults: TransferDefaults


@dataclass(frozen=True, slots=True)
class DeleteDestination:
    destination: str
    destination_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outline:
    """What a plan that is only shown tells of the changes of a transfer."""

    paths: int
    created: int
    total_bytes: int
    digest: str  # which paths in which versions


@dataclass(frozen=True, slots=True)
class StartTransfer:
    """Send `changes` from one mapping to one destination, as one attempt: at most MAX_ENTRIES, but for a
    set, which is one however large it is."""

    mapping: str
    destination: str
    changes: tuple[Change, ...]
    lane: str
    priority: int
    send_rate_max: float | None
    overwrite: Overwrite
    preserve_mtime: bool
    preserve_executable: bool
    retry: bool = False  # sends again what an earlier attempt could not
    as_set: bool = False  # nothing is published before all of it is there
    outline: Outline | None = None  # of all changes, where only the first are kept

    @property
    def paths(self) -> int:
        return self.outline.paths if self.outline else len(self.changes)

    @property
    def created(self) -> int:
        """How many of the paths are new at the destination."""
        if self.outline:
            return self.outline.created
        return sum(change.kind is ChangeKind.CREATED for change in self.changes)

    @property
    def total_bytes(self) -> int:
        if self.outline:
            return self.outline.total_bytes
        return sum(change.stat.size for change in self.changes)


@dataclass(frozen=True, slots=True)
class ResumeTransfer:
    mapping: str
    destination: str
    transfer_id: str


@dataclass(frozen=True, slots=True)
class SuspendTransfer:
    mapping: str
    destination: str
    transfer_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CancelTransfer:
    mapping: str
    destination: str
    transfer_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SetTransferPriority:
    mapping: str
    destination: str
    transfer_id: str
    lane: str
    priority: int


@dataclass(frozen=True, slots=True)
class SetTransferRate:
    mapping: str
    destination: str
    transfer_id: str
    send_rate_max: float | None


@dataclass(frozen=True, slots=True)
class DeletePaths:
    """Delete at the destination what this mapping delivered: `files` first, then `directories` if empty."""

    mapping: str
    destination: str
    files: tuple[str, ...]
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RenamePaths:
    """Rename at the destination what was renamed at the source, then delete `directories` if empty."""

    mapping: str
    destination: str
    renames: tuple[Rename, ...]
    directories: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """What need not be sent."""
        return sum(rename.change.stat.size for rename in self.renames)


@dataclass(frozen=True, slots=True)
class TrashPaths:
    """Move out of the way what would be deleted: (path, where in the trash); then `directories` if empty."""

    mapping: str
    destination: str
    moves: tuple[tuple[str, str], ...]
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgetPaths:
    """Ledger only: the entries no longer say anything about the destination."""

    mapping: str
    destination: str
    paths: tuple[str, ...]


Action = (
    CreateDestination
    | RetagDestination
    | SetLanes
    | SetSendRate
    | SetDefaults
    | DeleteDestination
    | StartTransfer
    | ResumeTransfer
    | SuspendTransfer
    | CancelTransfer
    | SetTransferPriority
    | SetTransferRate
    | DeletePaths
    | RenamePaths
    | TrashPaths
    | ForgetPaths
)

MAX_ENTRIES = 20_000
"""Most file entries of one manifest: keeps messages and memory bounded."""


@dataclass(frozen=True, slots=True)
class Held:
    """Deletions that are not carried out until a person approves; everything else proceeds."""

    mapping: str
    destination: str
    deletions: tuple[Deletion, ...]
    reason: str  # "12 deletions exceed maxCount 10"
    digest: str  # what `approve` approves: this set and no other


@dataclass(frozen=True, slots=True)
class Later:
    """Deletions that wait for `deletions.grace` to be over: the first until `due`, the last until `last`
    (Unix seconds)."""

    mapping: str
    destination: str
    deletions: tuple[Deletion, ...]
    due: float
    last: float


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...] = ()
    held: tuple[Held, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    waiting: tuple[str, ...] = field(default=())
    later: tuple[Later, ...] = ()
    names: tuple[NameProblem, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing to execute. Held deletions do not make a plan non-empty: they wait for a person."""
        return not self.actions

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            self.actions + other.actions,
            self.held + other.held,
            self.suspects + other.suspects,
            self.waiting + other.waiting,
            self.later + other.later,
            self.names + other.names,
        )


def together(plans: Sequence[Plan]) -> Plan:
    """One plan of many, in their order; takes as long as they are, however many."""
    names = (part.name for part in fields(Plan))
    return Plan(*(tuple(chain.from_iterable(getattr(plan, name) for plan in plans)) for name in names))
