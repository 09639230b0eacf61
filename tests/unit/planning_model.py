"""A tiny world in which plans are carried out: what the planner's laws are checked against.

One agent, one destination spec, one mapping spec. Everything that an action does to a server, the ledger or
the destination's files is done here in memory; what is in flight ends when `finish` is called.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.model.change import ChangeSet, FileKind, FileStat, Rename
from agent.model.known import Known
from agent.model.observed import (
    ObservedDefaults,
    ObservedDestination,
    ObservedTransfer,
    Tag,
    TransferState,
)
from agent.model.plan import (
    Action,
    CancelTransfer,
    CreateDestination,
    DeleteDestination,
    DeletePaths,
    ForgetPaths,
    Plan,
    RenamePaths,
    ResumeTransfer,
    RetagDestination,
    SetDefaults,
    SetLanes,
    SetSendRate,
    SetTransferPriority,
    SetTransferRate,
    StartTransfer,
    SuspendTransfer,
    TrashPaths,
)
from agent.model.spec import DestinationSpec, Lane, MappingSpec, PathMapping, TransferDefaults
from agent.planning.changes import compare
from agent.planning.destination import destination_digest, plan_destination
from agent.planning.mapping import plan_mapping
from agent.planning.renames import as_rename, created_files, may_rename, pair

AGENT = "agent-1"
FOREIGN = Tag("agent-2", "Mapping/dailies")
ARCHIVE = DestinationSpec("archive", "192.0.2.1")
DAILIES = MappingSpec(
    "dailies", ("archive",), (PathMapping("/in", "/src"),), destination_path="/paris", prune=True
)


def file_stat(version: int, kind: FileKind = FileKind.FILE) -> FileStat:
    if kind is FileKind.EMPTY_DIRECTORY:
        return FileStat(kind, 0, 1_000, 2_000, 7, False)
    return FileStat(kind, version, 1_000 + version, 2_000 + version, 7, False)


@dataclass
class World:
    destinations: dict[str, ObservedDestination] = field(default_factory=dict)
    transfers: dict[str, ObservedTransfer] = field(default_factory=dict)
    carries: dict[str, dict[str, FileStat]] = field(default_factory=dict)  # transfer id -> what it sends
    deleting: set[str] = field(default_factory=set)
    source: dict[str, FileStat] = field(default_factory=dict)  # by destination path
    ledger: dict[str, FileStat] = field(default_factory=dict)
    delivered: dict[str, FileStat] = field(default_factory=dict)  # files at the destination
    reports: bool = True  # whether the server reports lanes and defaults
    touched: set[str] = field(default_factory=set)  # destinations, transfers and paths that were changed
    renaming: dict[str, tuple[str, FileStat]] = field(default_factory=dict)  # old path -> new one, version
    leaving: set[str] = field(default_factory=set)  # directories that go when renamings have ended
    trash: dict[str, FileStat] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)  # tombstones
    now: float = 1e9

    # planning

    def tag(self, desired: DestinationSpec, lanes: tuple[Lane, ...]) -> Tag:
        return Tag(AGENT, f"Destination/{desired.name}", "rev", destination_digest(desired, lanes))

    def plan_destination(self, desired: DestinationSpec, lanes: tuple[Lane, ...]) -> Plan:
        tag = self.tag(desired, lanes)
        ours = [d for d in self.destinations.values() if d.tag and (d.tag.agent, d.tag.spec) == tag_of(tag)]
        observed = ours[0] if ours else None
        if observed is not None and not self.reports:
            observed = replace(observed, lanes=None, defaults=ObservedDefaults())
        return plan_destination(desired, lanes, observed, tag, tuple(self.transfers.values()))

    def in_flight(self) -> dict[str, FileStat | None]:
        flying: dict[str, FileStat | None] = dict.fromkeys(self.deleting)
        for carried in self.carries.values():
            flying |= carried
        flying |= dict.fromkeys((*self.renaming, *self.leaving))
        return flying | dict(self.renaming.values())

    def changes(self) -> ChangeSet:
        found = {path: (f"/src{path}", stat) for path, stat in self.source.items()}
        changes, deletions, waiting = compare(found, self.ledger, self.in_flight())
        return ChangeSet(tuple(changes), tuple(deletions), (), tuple(waiting))

    def plan_mapping(
        self,
        desired: MappingSpec = DAILIES,
        destination: DestinationSpec = ARCHIVE,
        lanes: tuple[Lane, ...] = (Lane("High", 0.7), Lane("Normal", 0.3)),
        approved: frozenset[str] = frozenset(),
        suspended: bool = False,
    ) -> Plan:
        transfers = tuple(self.transfers.values())
        count, changes = len(self.ledger), self.changes()
        gone = {deletion.path for deletion in changes.deletions}
        self.since = {path: self.since.get(path, self.now) for path in gone}
        return plan_mapping(
            *(desired, destination, lanes, changes, transfers, count, approved, suspended),
            agent=AGENT,
            still_present=lambda path: any(p == path or p.startswith(path + "/") for p in self.source),
            renames=self.renames(changes) if may_rename(desired) else (),
            gone_since=self.since,
            now=self.now,
        )

    def renames(self, changes: ChangeSet) -> tuple[Rename, ...]:
        known = [Known(path, stat) for path, stat in self.ledger.items()]
        flying = self.in_flight()
        found = pair(
            created_files(changes.changes), known, lambda p: p not in self.source and p not in flying
        )
        return tuple(map(as_rename, found))

    # carrying out

    def apply(self, plan: Plan, tag: Tag | None = None) -> None:
        for action in plan.actions:
            self._apply_to_destination(action, tag)
            self._apply_to_transfer(action)
            self._apply_to_paths(action)

    def _apply_to_destination(self, action: Action, tag: Tag | None) -> None:
        if isinstance(action, CreateDestination):
            name = f"d{len(self.destinations)}-{action.address}"
            self.destinations[name] = ObservedDestination(
                name, action.address, action.port, tag, action.lanes, action.send_rate_max,
                observed_defaults(action.defaults),
            )  # fmt: skip
        elif isinstance(action, DeleteDestination):
            del self.destinations[action.destination_id]
        elif isinstance(action, SetLanes | SetSendRate | SetDefaults | RetagDestination):
            before = self.destinations[action.destination_id]
            change = {
                SetLanes: lambda a: {"lanes": a.lanes},
                SetSendRate: lambda a: {"send_rate_max": a.send_rate_max},
                SetDefaults: lambda a: {"defaults": observed_defaults(a.defaults)},
                RetagDestination: lambda a: {"tag": tag},
            }[type(action)](action)
            self.destinations[before.id] = replace(before, **change)  # type: ignore[arg-type]
        if isinstance(action, DeleteDestination | SetLanes | SetSendRate | SetDefaults | RetagDestination):
            self.touched.add(action.destination_id)

    def _apply_to_transfer(self, action: Action) -> None:
        if isinstance(action, StartTransfer):
            name = f"t{len(self.transfers)}-{len(self.touched)}"
            state = TransferState.SENDING
            tag = Tag(AGENT, f"Mapping/{action.mapping}")
            self.transfers[name] = ObservedTransfer(
                name, "d", f"m{name}", tag, state, action.lane, action.priority, action.send_rate_max
            )
            assert not set(self.in_flight()) & {change.path for change in action.changes}
            self.carries[name] = {change.path: change.stat for change in action.changes}
        elif isinstance(action, CancelTransfer):
            del self.transfers[action.transfer_id]
            self.carries.pop(action.transfer_id, None)
            self.touched.add(action.transfer_id)
        elif isinstance(action, SuspendTransfer | ResumeTransfer | SetTransferPriority | SetTransferRate):
            before = self.transfers[action.transfer_id]
            change = {
                SuspendTransfer: lambda a: {"state": TransferState.SUSPENDED},
                ResumeTransfer: lambda a: {"state": TransferState.SENDING},
                SetTransferPriority: lambda a: {"lane": a.lane, "priority": a.priority},
                SetTransferRate: lambda a: {"send_rate_max": a.send_rate_max},
            }[type(action)](action)
            self.transfers[before.id] = replace(before, **change)  # type: ignore[arg-type]
            self.touched.add(action.transfer_id)

    def _apply_to_paths(self, action: Action) -> None:
        if isinstance(action, ForgetPaths):
            for path in action.paths:
                del self.ledger[path]
        elif isinstance(action, DeletePaths):
            assert not set(action.files) & set(self.in_flight())
            self.touched |= set(action.files) | set(action.directories)
            self.deleting |= set(action.files) | (set(action.directories) & set(self.ledger))
            for path in action.files:
                assert self.delivered[path].kind is not FileKind.EMPTY_DIRECTORY
                del self.delivered[path]
            for path in action.directories:
                if not any(other.startswith(path + "/") for other in self.delivered):
                    self.delivered.pop(path, None)

        elif isinstance(action, RenamePaths):
            flying = self.in_flight()
            for rename in action.renames:
                old, new = rename.old, rename.change.path
                assert old not in flying, "nothing is renamed that is in flight"
                assert new not in flying
                assert new not in self.delivered, "a rename never replaces"
                assert old in self.ledger, "only what was delivered is renamed"
                for above in [other for other in self.delivered if new.startswith(other + "/")]:
                    assert self.delivered[above].kind is FileKind.EMPTY_DIRECTORY
                    del self.delivered[above]
                self.delivered[new] = self.delivered.pop(old)
                self.renaming[old] = (new, rename.change.stat)
            self.leaving |= set(action.directories)
            self.touched |= {rename.old for rename in action.renames} | set(action.directories)
        elif isinstance(action, TrashPaths):
            assert not {path for path, _ in action.moves} & set(self.in_flight())
            for path, place in action.moves:
                self.trash[place] = self.delivered.pop(path)
                self.deleting.add(path)
                self.touched.add(path)

    def finish(self) -> None:
        """All that is in flight ends well and is recorded."""
        for old, (new, stat) in self.renaming.items():
            del self.ledger[old]
            self.ledger[new] = stat
        self.renaming.clear()
        self.leaving.clear()
        for path in self.deleting:
            self.ledger.pop(path, None)
        self.deleting.clear()
        for path, stat in self.ledger.items():  # a directory that was not empty when it was sent is now
            emptied = not any(other.startswith(path + "/") for other in self.delivered)
            if stat.kind is FileKind.EMPTY_DIRECTORY and emptied:
                self.delivered[path] = stat
        for name, carried in self.carries.items():
            for path, stat in carried.items():
                below = [other for other in self.delivered if other.startswith(path + "/")]
                assert stat.kind is FileKind.EMPTY_DIRECTORY or not below, "a file cannot replace a directory"
                assert not any(
                    path.startswith(other + "/") and kept.kind is not FileKind.EMPTY_DIRECTORY
                    for other, kept in self.delivered.items()
                ), "nothing can be delivered below a file"
                for above in [other for other in self.delivered if path.startswith(other + "/")]:
                    del self.delivered[above]  # not an empty directory any more
                if not below:
                    self.delivered[path] = stat
            self.ledger |= carried
            self.transfers[name] = replace(self.transfers[name], state=TransferState.COMPLETE)
        self.carries.clear()


def tag_of(tag: Tag) -> tuple[str, str]:
    return tag.agent, tag.spec


def observed_defaults(defaults: TransferDefaults) -> ObservedDefaults:
    return ObservedDefaults(
        defaults.priority,
        defaults.lane,
        defaults.checkpoint_interval,
        defaults.overwrite,
        defaults.modification_time_tolerance,
        defaults.min_cipher,
    )
