"""The port to a transfer server: the few verbs the agent needs, whatever moves the bytes.

All calls block for at most the adapter's request time-out (10 s), never for a transfer. They raise
`UnreachableError` (nobody answers; safe to call again), `AuthenticationError`, `NotFoundError` (the named
object is gone) or `PermanentError` (the server refuses; the message is the server's). Setting what is
already set is harmless. Creating is not idempotent: the caller writes the attempt down first and looks for
its tag in `observe()` after a crash.

One adapter object may be used from several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from agent.model.observed import Capabilities, EngineState, FarFile, FileResult, ObservedTransfer, Tag
from agent.model.spec import Durability, Lane, Overwrite, Route, TransferDefaults


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or empty directory to send. No I/O is needed to know it."""

    path: str  # full destination path
    source: str
    size: int
    is_directory: bool
    executable: bool
    link: str = ""  # what a symbolic link says; empty for everything else


@dataclass(frozen=True, slots=True)
class ReceiverCredentials:
    """Account on the receiving server. repr does not show the password."""

    user_name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TransferRequest:
    destination_id: str
    entries: tuple[Entry, ...]
    lane: str
    priority: int
    send_rate_max: float | None
    overwrite: Overwrite
    preserve_mtime: bool
    checkpoint_interval: float
    modification_time_tolerance: float
    timeout: float
    tag: Tag
    credentials: ReceiverCredentials | None = None
    durability: Durability = Durability.CHECKPOINT
    as_set: bool = False  # nothing appears at the destination before all of it is there …
    marker: str = ""  # … and the files of this name appear last


@dataclass(frozen=True, slots=True)
class DestinationRequest:
    """`address` is a host and `port` its port; for FTS3 a URL, and 0."""

    address: str
    port: int
    send_rate_max: float | None
    tag: Tag
    route: Route = Route()


class RemoteState(Protocol):
    """How a deletion or a renaming at the destination is doing."""

    @property
    def done(self) -> bool: ...
    @property
    def results(self) -> tuple[FileResult, ...]: ...
    @property
    def error(self) -> str: ...


class InventoryState(Protocol):
    """One page of what is at the destination, in the byte order of the paths."""

    @property
    def done(self) -> bool: ...
    @property
    def files(self) -> tuple[FarFile, ...]: ...
    @property
    def next(self) -> str | None:
        """The path after which the next page begins; None when this is the last one."""

    @property
    def error(self) -> str: ...


class Engine(Protocol):
    def connect(self) -> Capabilities:
        """Connect and log in, or confirm that we are. Idempotent."""

    def close(self) -> None:
        """Drop connections and stop watching. Idempotent."""

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Call `changed(kind, id)` from a thread of the adapter whenever a transfer, deletion or
        destination ("transfer" | "deletion" | "destination") of the server may have changed, and
        `changed("server", "")` when the connection was lost or regained. Hints, not truth: some may be
        lost, doubled or about objects of others."""

    def observe(self, agent: str) -> EngineState:
        """Every destination and transfer whose tag names this agent."""

    def create_destination(self, request: DestinationRequest) -> str:
        """Create (exclusive, permanent), tag at once, and return the id."""

    def tag_destination(self, destination_id: str, tag: Tag) -> None: ...

    def delete_destination(self, destination_id: str) -> None:
        """Delete with its finished transfers. PermanentError while one is active."""

    def set_lanes(self, destination_id: str, lanes: tuple[Lane, ...]) -> None: ...

    def set_send_rate(self, destination_id: str, send_rate_max: float | None) -> None:
        """kbit/s; None = unlimited."""

    def set_defaults(self, destination_id: str, defaults: TransferDefaults) -> None: ...

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        """Create manifest and transfer, tagged."""

    def transfer(self, transfer_id: str) -> ObservedTransfer:
        """State LOST instead of an error when the server no longer knows it."""

    def results(self, transfer_id: str, after: int) -> tuple[tuple[FileResult, ...], int]:
        """Files that became final since cursor `after` (0 at first), and the next cursor.
        Empty without the capability `file_results`."""

    def suspend(self, transfer_id: str) -> None: ...

    def resume(self, transfer_id: str) -> None: ...

    def cancel(self, transfer_id: str, reason: str) -> None:
        """Stop and remove an active or suspended transfer. Gone already is success."""

    def set_priority(self, transfer_id: str, lane: str, priority: int) -> None: ...

    def set_transfer_rate(self, transfer_id: str, send_rate_max: float | None) -> None: ...

    def forget(self, transfer_id: str, manifest_id: str) -> None:
        """Remove a finished transfer and its manifest from the server. Gone already is success."""

    def start_deletion(
        self,
        destination_id: str,
        files: tuple[str, ...],
        directories: tuple[str, ...],
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        """Ask the destination to delete files, then directories if empty (deepest first); returns an id."""

    def deletion(self, deletion_id: str) -> RemoteState:
        """NotFoundError when the server was restarted and forgot it: ask again."""

    def start_renaming(
        self,
        destination_id: str,
        renames: tuple[tuple[str, str], ...],
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        """Ask the destination to rename files, (old, new) in this order, making the directories above the
        new ones; what is there already is never replaced. Returns an id. With capability `rename`."""

    def renaming(self, renaming_id: str) -> RemoteState:
        """Results are by the new path: delivered (it is there now), vanished (the old one is not), skipped
        (something else is at the new one), failed. NotFoundError when the server was restarted and forgot
        it: look at the destination before asking again."""

    def start_inventory(
        self,
        destination_id: str,
        directory: str,
        after: str = "",
        *,
        checksum: bool = False,
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        """Ask for a page of what is at the destination at or below `directory`, from the path that follows
        `after`; with `checksum`, digests of the contents as the destination reads them. Returns an id. With
        capability `inventory`. The engine bounds the page, by files and by time."""

    def inventory(self, inventory_id: str) -> InventoryState:
        """NotFoundError when the server was restarted and forgot it: ask again."""


@runtime_checkable
class LaneMeter(Protocol):
    """An engine that counts what each lane sends."""

    def lane_bytes(self, destination_id: str) -> dict[str, int]:
        """By lane, since the server started; empty when this server does not count. Starts again from zero
        when the server does."""


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """`files`: as the holder sees them, and where they lie at the server. repr shows no password."""

    files: tuple[Entry, ...]
    password: str | None = field(repr=False)
    download_limit: int | None
    expires_in: float | None  # seconds; None = never
    description: str
    tag: Tag


@dataclass(frozen=True, slots=True)
class ObservedShare:
    id: str  # not the token itself, which is a secret
    tag: Tag | None
    created: float  # Unix seconds
    expires: float | None
    downloads: int
    download_limit: int | None
    description: str


@runtime_checkable
class Sharing(Protocol):
    """An engine whose server hands out files of its own for tokens (capability `shares`)."""

    def shares(self, agent: str) -> tuple[ObservedShare, ...]:
        """Every token whose tag names this agent."""

    def create_share(self, request: ShareRequest) -> ObservedShare:
        """Make a token over these files, tagged."""

    def update_share(self, share_id: str, expires_in: float | None, description: str) -> None:
        """`expires_in` counts from now; None = as it was."""

    def delete_share(self, share_id: str) -> None:
        """Nobody can log in with it any more; downloads that run go on. Gone already is success."""

    def share_token(self, share_id: str) -> str:
        """The token itself."""


@runtime_checkable
class Holding(Protocol):
    """An engine that can hold a whole destination at its server (capability `hold`)."""

    def hold(self, destination_id: str, held: bool) -> str:
        """Hold it, or let it go again. Returns what holds it, in words for a person; "" when nothing changed
        or it was let go. Setting what is already set is harmless."""


@runtime_checkable
class Knocking(Protocol):
    """An engine whose server dials its destinations only when there is something to do there."""

    def knock(self, destination_id: str) -> None:
        """Have the server try whether it is let in there; `observe` tells what came of it."""
